-- The logs of chats and of users. A row's content is bytes, the same as in the embedded store; beside it stands
-- what queries choose by. Every key begins with what it belongs to, so that each table can be partitioned by it.

-- One row: which history this is.
CREATE TABLE chat_history (
    only_row BOOLEAN PRIMARY KEY CHECK (only_row),
    -- Drawn when the history began.
    epoch    BIGINT  NOT NULL,
    -- Which database this was when it was opened last: a restored copy is another one.
    place    TEXT    NOT NULL,
    -- What is added to the number of a transaction to give a position.
    base     BIGINT  NOT NULL
);

-- Who writes. The last commit of each, and a number drawn for it.
CREATE TABLE chat_writers (
    writer   BIGINT PRIMARY KEY,
    position BIGINT NOT NULL,
    round    BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE chats (
    chat_id      BIGINT PRIMARY KEY,
    -- The commits that brought its newest event and its newest receipt.
    moved_at     BIGINT NOT NULL,
    marked_at    BIGINT NOT NULL,
    head         BIGINT NOT NULL,
    -- 0 when there is none.
    last_message BIGINT NOT NULL,
    content      BYTEA  NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE chat_events (
    chat_id  BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    -- The commit that brought it.
    position BIGINT NOT NULL,
    content  BYTEA  NOT NULL,
    PRIMARY KEY (chat_id, seq)
);

CREATE TABLE chat_members (
    chat_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    content BYTEA  NOT NULL,
    PRIMARY KEY (chat_id, user_id)
) WITH (fillfactor = 80);

-- The chats that a user is in.
CREATE TABLE chats_of_users (
    user_id   BIGINT  NOT NULL,
    chat_id   BIGINT  NOT NULL,
    is_direct BOOLEAN NOT NULL,
    PRIMARY KEY (user_id, chat_id)
);

CREATE TABLE user_events (
    user_id BIGINT NOT NULL,
    seq     BIGINT NOT NULL,
    content BYTEA  NOT NULL,
    PRIMARY KEY (user_id, seq)
);

-- Where the own logs of users end.
CREATE TABLE user_heads (
    user_id BIGINT PRIMARY KEY,
    head    BIGINT NOT NULL
) WITH (fillfactor = 80);

-- What send keys were used for, by the week in which they were.
CREATE TABLE chat_send_keys (
    week    BIGINT NOT NULL,
    hash    BYTEA  NOT NULL,
    content BYTEA  NOT NULL,
    PRIMARY KEY (week, hash)
);

-- Everything small: a key says of what table a row is, and to what it belongs.
CREATE TABLE chat_index (
    key     BYTEA PRIMARY KEY,
    content BYTEA NOT NULL
);
