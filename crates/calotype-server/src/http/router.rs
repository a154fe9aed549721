//! From method and path to one row of the table, or to the reason why there is none.

use calotype_api::percent::decode;
use http::Method;

use super::published;
use super::request::PathParameters;
use crate::operations::Operation;

/// Where a request goes.
pub(super) enum Route {
    /// To an operation, with what its path gives.
    Found(&'static Operation, PathParameters),
    /// The public service has this operation, this region does not.
    NotImplemented(&'static str),
    /// The path has operations, none with this method.
    MethodNotAllowed(Vec<Method>),
    /// No operation has this path.
    NotFound,
}

/// The rows, with their paths taken apart. What has more literal segments is matched first, so that
/// `/images/actions` is never an image called `actions`.
pub(super) struct Router(Vec<(Vec<Segment>, &'static Operation)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    Parameter(&'static str),
    /// One segment or more, with the slashes between them.
    Segments(&'static str),
}

/// The parameter that may have slashes in it. Some clients encode them and some do not.
const NAME_WITH_SLASHES: &str = "objectName";

impl Router {
    pub(super) fn new(operations: Vec<&'static Operation>) -> Self {
        let mut rows: Vec<_> =
            operations.into_iter().map(|row| (segments(row.path), row)).collect();
        rows.sort_by_key(|(segments, _)| {
            segments.iter().filter(|segment| !matches!(segment, Segment::Literal(_))).count()
        });
        Self(rows)
    }

    /// Finds the operation. `path` is raw: it is taken apart first and decoded then, so that an encoded slash stays
    /// inside its segment. One slash at the end is ignored, as older clients send it,
    /// unless it is an object's. Where two services have the same path, a parameter of the query that only one of them
    /// takes tells which is meant.
    pub(super) fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Route {
        let Some(parts) = take_apart(path) else { return Route::NotFound };
        let mut allowed = Vec::new();
        for (segments, row) in &self.0 {
            if let Some(parameters) = matched(segments, &parts) {
                if row.method == *method {
                    let rows = self.0.iter().map(|(_, other)| *other);
                    let mut same =
                        rows.filter(|one| one.method == row.method && one.path == row.path);
                    let meant = same.find(|one| takes(one, query)).unwrap_or(row);
                    return Route::Found(meant, parameters);
                }
                allowed.push(row.method.clone());
            }
        }
        let known = published::OPERATIONS.iter().find(|(of, template, _)| {
            *of == method.as_str() && matched(&segments(template), &parts).is_some()
        });
        match known {
            Some((_, _, name)) => Route::NotImplemented(name),
            None if allowed.is_empty() => Route::NotFound,
            None => {
                allowed.dedup();
                Route::MethodNotAllowed(allowed)
            }
        }
    }
}

/// Whether the operation has every parameter of a raw query.
fn takes(row: &Operation, query: Option<&str>) -> bool {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut names = pairs.map(|pair| pair.split('=').next().unwrap_or_default());
    names.all(|name| row.query.iter().any(|parameter| parameter.name == name))
}

fn segments(path: &'static str) -> Vec<Segment> {
    let segment =
        |part: &'static str| match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(NAME_WITH_SLASHES) => Segment::Segments(NAME_WITH_SLASHES),
            Some(name) => Segment::Parameter(name),
            None => Segment::Literal(part),
        };
    path.trim_start_matches('/').split('/').map(segment).collect()
}

fn take_apart(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(|part| decode(part, false)).collect()
}

fn matched(segments: &[Segment], parts: &[String]) -> Option<PathParameters> {
    let parts = match (segments.last(), parts.split_last()) {
        (Some(Segment::Segments(_)), _) => parts,
        // One slash at the end.
        (_, Some((last, before))) if last.is_empty() => before,
        _ => parts,
    };
    let at = segments.iter().position(|segment| matches!(segment, Segment::Segments(_)));
    let Some(at) = at else { return matched_singly(segments, parts) };
    let (before, rest) = segments.split_at_checked(at)?;
    let ([Segment::Segments(name)], after) = rest.split_at_checked(1)? else { return None };
    let end = parts.len().checked_sub(after.len()).filter(|end| *end > at)?;
    let value = parts.get(at..end)?.join("/");
    let mut parameters = matched_singly(before, parts.get(..at)?)?;
    parameters.extend(matched_singly(after, parts.get(end..)?)?);
    (!value.is_empty()).then_some(())?;
    parameters.insert(name, value);
    Some(parameters)
}

fn matched_singly(segments: &[Segment], parts: &[String]) -> Option<PathParameters> {
    if segments.len() != parts.len() {
        return None;
    }
    let mut parameters = PathParameters::new();
    for (segment, part) in segments.iter().zip(parts) {
        match segment {
            Segment::Literal(literal) if literal == part => {}
            Segment::Parameter(name) if !part.is_empty() => {
                parameters.insert(name, part.clone());
            }
            _ => return None,
        }
    }
    Some(parameters)
}
