-- Where a chat stands in the list of a user: the hour in which it was last spoken in, counted from 1970. The largest of
-- all numbers stands for channels, and for what was not put in its place yet.
ALTER TABLE chats_of_users ADD COLUMN hour BIGINT NOT NULL DEFAULT 9223372036854775807;

CREATE INDEX chats_of_users_by_hour ON chats_of_users (user_id, hour DESC, chat_id DESC);
