-- Who makes ids as which node. A lease that is over may be taken by anybody; its token tells the holders apart.
CREATE TABLE nodes (
    node       SMALLINT    PRIMARY KEY,
    token      BIGINT      NOT NULL,
    held_until TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

-- What all nodes of the deployment must agree on.
CREATE TABLE agreements (
    about TEXT PRIMARY KEY,
    word  TEXT NOT NULL
);
