//! Integration tests of the wire types and of request signing.

mod body;
mod signing;
mod wire;
