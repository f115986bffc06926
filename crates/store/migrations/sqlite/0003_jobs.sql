-- Work that is done later. Times are milliseconds since 1970 on the clock of the engine.
CREATE TABLE jobs (
    job_id       INTEGER PRIMARY KEY,
    kind         TEXT    NOT NULL,
    about        TEXT    NOT NULL,
    -- The number of the newest claim, and what it was when the job was enqueued or replayed.
    attempt      INTEGER NOT NULL,
    begun_before INTEGER NOT NULL,
    -- When it may begin; of a job that is held, when its claim is over.
    due_ms       INTEGER NOT NULL,
    -- When it failed for good, and why a try failed last.
    dead_at_ms   INTEGER,
    why          TEXT    NOT NULL
) STRICT;

CREATE INDEX jobs_due ON jobs (kind, due_ms) WHERE dead_at_ms IS NULL;
CREATE INDEX jobs_dead ON jobs (job_id) WHERE dead_at_ms IS NOT NULL;

-- The newest occurrence of each schedule whose job was enqueued.
CREATE TABLE job_schedules (
    schedule  TEXT    PRIMARY KEY,
    newest_ms INTEGER NOT NULL
) STRICT;
