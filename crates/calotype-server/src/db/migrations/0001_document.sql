-- Every resource of the region is one row: a JSON document and the columns it is found by.
-- The text is the subset that SQLite and PostgreSQL share; absent values are '' so that they sort and compare alike.
-- On PostgreSQL the database must be created with LC_COLLATE 'C': names sort by their bytes.
CREATE TABLE document (
    kind            TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    parent_id       TEXT   NOT NULL,
    compartment_id  TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    time_created_us BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    body            TEXT   NOT NULL,
    PRIMARY KEY (kind, id)
);

-- One index for each (scope, order) that a list can ask for: a page is read in order, never sorted.
CREATE INDEX document_by_time             ON document (kind, time_created_us, id);
CREATE INDEX document_by_name             ON document (kind, name, time_created_us, id);
CREATE INDEX document_by_parent           ON document (kind, parent_id, time_created_us, id);
CREATE INDEX document_by_parent_name      ON document (kind, parent_id, name, time_created_us, id);
CREATE INDEX document_by_compartment      ON document (kind, compartment_id, time_created_us, id);
CREATE INDEX document_by_compartment_name ON document (kind, compartment_id, name, time_created_us, id);
