-- What lies in a compartment, of whatever kind: one that has something cannot be deleted.
CREATE INDEX document_in_compartment ON document (compartment_id, state);
