-- A dead event that a person corrected: its row stays with its body, and names the row of the message that
-- was published in its place.
alter table kept_messages add column mended_as uuid; -- the row of the corrected message; null: it was not corrected
create index kept_messages_mended on kept_messages (id) where mended_as is not null and body <> '';
