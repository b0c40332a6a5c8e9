-- Until when the delivery was deferred by its endpoint's limits: the reconciler does not take it
-- for lost before. Null when it was not.
alter table claims add column deferred_until timestamptz;
