//! The path of an object's URL: `/n/NAMESPACE/b/BUCKET/o/OBJECT`, behind `/p/SECRET` if it is that of a
//! pre-authenticated request.

use std::fmt;

use crate::percent::{decode, encode};

/// What the path of an object's URL says, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPath {
    /// The secret of a pre-authenticated request.
    pub token: Option<String>,
    /// The namespace of the bucket.
    pub namespace: String,
    /// The bucket's name.
    pub bucket: String,
    /// The object's name, which may have slashes; empty where one is to be added.
    pub object: String,
}

impl ObjectPath {
    /// Reads a path. It is taken apart first and decoded then, so that an encoded slash stays inside its segment.
    pub fn parse(path: &str) -> Option<Self> {
        let parts = path.strip_prefix('/')?.split('/').map(|part| decode(part, false));
        let parts: Vec<String> = parts.collect::<Option<_>>()?;
        let (token, rest) = match parts.as_slice() {
            [p, token, rest @ ..] if p == "p" => (Some(token.clone()), rest),
            rest => (None, rest),
        };
        let [n, namespace, b, bucket, o, object @ ..] = rest else { return None };
        if (n.as_str(), b.as_str(), o.as_str()) != ("n", "b", "o") || object.is_empty() {
            return None;
        }
        let (namespace, bucket) = (namespace.clone(), bucket.clone());
        Some(Self { token, namespace, bucket, object: object.join("/") })
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whatever is no name has its slashes encoded, too.
        let segment = |text: &str| encode(text).replace('/', "%2F");
        if let Some(token) = &self.token {
            write!(formatter, "/p/{}", segment(token))?;
        }
        let (namespace, bucket) = (segment(&self.namespace), segment(&self.bucket));
        write!(formatter, "/n/{namespace}/b/{bucket}/o/{}", encode(&self.object))
    }
}
