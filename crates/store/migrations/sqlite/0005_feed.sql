-- Who follows the feed, and how far each has got. Times are milliseconds since 1970.
CREATE TABLE feed_consumers (
    name        TEXT    PRIMARY KEY,
    consumer_id INTEGER NOT NULL UNIQUE,
    epoch       INTEGER NOT NULL,
    place       INTEGER NOT NULL,
    made_at_ms  INTEGER NOT NULL,
    moved_at_ms INTEGER NOT NULL
) STRICT;
