//! Integration tests of the wire types and of request signing.

#[cfg(test)]
mod body;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod signing;
#[cfg(test)]
mod wire;
