-- Accounts, logins and profiles. Times are milliseconds since 1970. Texts are compared byte by byte, as in the
-- embedded store, whatever the locale of the database is.

-- What people see of each other. The name is also the account's.
CREATE TABLE users (
    user_id       BIGINT  PRIMARY KEY,
    name          TEXT    COLLATE "C" NOT NULL UNIQUE,
    display_name  TEXT    NOT NULL,
    about         TEXT    NOT NULL,
    created_at_ms BIGINT  NOT NULL,
    changed_at_ms BIGINT  NOT NULL,
    shares_seen   BOOLEAN NOT NULL DEFAULT TRUE
);

-- Apart from the users, so that no query of profiles can show one.
CREATE TABLE passwords (
    user_id       BIGINT  PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    phc           TEXT    NOT NULL,
    pepper_id     TEXT    NOT NULL
);

-- Signed-in devices. The hashes are the SHA-256 of the newest refresh token and of the one before.
CREATE TABLE logins (
    login_id        BIGINT PRIMARY KEY,
    user_id         BIGINT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    device_id       TEXT   NOT NULL,
    device_name     TEXT   NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    refreshed_at_ms BIGINT NOT NULL,
    expires_at_ms   BIGINT NOT NULL,
    ended_at_ms     BIGINT,
    family_seed     BYTEA  NOT NULL,
    pepper_id       TEXT   NOT NULL,
    refresh_hash    BYTEA  NOT NULL,
    spent_hash      BYTEA
);

CREATE INDEX logins_of_user ON logins (user_id, created_at_ms, login_id);
CREATE INDEX logins_ended ON logins (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- What a user is found by: folded texts, searched by their beginnings.
CREATE TABLE search_words (
    word    TEXT   COLLATE "C" NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    PRIMARY KEY (word, user_id)
);

CREATE INDEX search_words_of_user ON search_words (user_id);
