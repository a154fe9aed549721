//! The image store: chunks, packs, manifests, collection and verification.
