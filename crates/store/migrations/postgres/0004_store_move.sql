-- One row when everything in here came out of an embedded store: of which one, and how far that has got.
CREATE TABLE store_move (
    only_row  BOOLEAN PRIMARY KEY CHECK (only_row),
    -- Which history its logs are, and the last commit of it.
    epoch     BIGINT  NOT NULL,
    position  BIGINT  NOT NULL,
    -- SHA-256 of its people.
    people    BYTEA   NOT NULL,
    -- How many rows have arrived.
    row_count BIGINT  NOT NULL,
    -- All of them have arrived and were compared.
    is_done   BOOLEAN NOT NULL
);
