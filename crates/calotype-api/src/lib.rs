//! Wire types, error table, OCIDs and request signing of the OCI API.
