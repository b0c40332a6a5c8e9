-- Why a delivery was dropped, in words: who, what, and as of which directory revision; or which
-- events of a batch were left out of an attempt. Null when there is nothing to say.
alter table attempts add column detail text;
