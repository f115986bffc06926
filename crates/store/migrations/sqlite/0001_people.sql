-- Accounts, logins and profiles. Times are milliseconds since 1970.

-- What people see of each other. The name is also the account's.
CREATE TABLE users (
    user_id       INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    display_name  TEXT    NOT NULL,
    about         TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL
) STRICT;

-- Apart from the users, so that no query of profiles can show one.
CREATE TABLE passwords (
    user_id       INTEGER PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    phc           TEXT    NOT NULL,
    pepper_id     TEXT    NOT NULL
) STRICT;

-- Signed-in devices. The hashes are the SHA-256 of the newest refresh token and of the one before.
CREATE TABLE logins (
    login_id        INTEGER PRIMARY KEY,
    user_id         INTEGER NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    device_id       TEXT    NOT NULL,
    device_name     TEXT    NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    refreshed_at_ms INTEGER NOT NULL,
    expires_at_ms   INTEGER NOT NULL,
    ended_at_ms     INTEGER,
    family_seed     BLOB    NOT NULL,
    pepper_id       TEXT    NOT NULL,
    refresh_hash    BLOB    NOT NULL,
    spent_hash      BLOB
) STRICT;

CREATE INDEX logins_of_user ON logins (user_id, created_at_ms, login_id);
CREATE INDEX logins_ended ON logins (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- What a user is found by: folded texts, searched by their beginnings, compared byte by byte.
CREATE TABLE search_words (
    word    TEXT    NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    PRIMARY KEY (word, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX search_words_of_user ON search_words (user_id);
