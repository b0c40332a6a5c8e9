-- A claim says which call made it, and how many attempts of its entry began and never got their row.
-- That, and not how often the broker handed a job out, tells which delivery ends its workers.

-- The call that claimed. A call that is repeated because its answer was lost finds its own claim by
-- it. Null when no attempt is under way: the claim was released, or made for another purpose.
alter table claims add column token uuid;
-- Attempts of this entry that began and were not recorded before their claim ran out.
alter table claims add column unrecorded integer not null default 0;
-- Whether the attempt is made while its worker does nothing else.
alter table claims add column alone boolean not null default false;
-- How many of the unrecorded attempts were made so.
alter table claims add column unrecorded_alone integer not null default 0;
