-- The Id of a delivery begins with the first half of its batch's key, so that a delivery is found
-- through its events. What found it before cost a worker a third of what it pays to write an
-- attempt: the Ids are digests, and each went to another page of a large index. (Nothing older than
-- this was ever released; the column goes at once.)
drop index attempts_delivery;
alter table attempts drop column delivery;
