//! `opc-request-id`: `<the client's>/<32 HEX>/<32 HEX>`, and never a character that a log or a header cannot have.

use uuid::Uuid;

use super::limits::CLIENT_REQUEST_ID_MAX;

/// The id of a request whose client sent `client` as its own.
pub(super) fn request_id(client: Option<&[u8]>) -> String {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let client: String = client
        .unwrap_or_default()
        .iter()
        .take_while(|byte| allowed(byte))
        .take(CLIENT_REQUEST_ID_MAX)
        .map(|byte| char::from(*byte))
        .collect();
    let client = if client.is_empty() { random() } else { client };
    format!("{client}/{}/{}", random(), random())
}

fn random() -> String {
    format!("{:X}", Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_the_clients_part_and_makes_one_if_there_is_none() {
        assert!(request_id(Some(b"0123456789ABCDEF")).starts_with("0123456789ABCDEF/"));
        assert!(request_id(Some(b"one/two")).starts_with("one/"));
        assert_eq!(request_id(None).len(), 32 * 3 + 2);
        assert_eq!(request_id(Some(b"\r\nx: y")).len(), 32 * 3 + 2);
    }

    proptest! {
        #[test]
        fn has_three_bounded_parts_whatever_the_client_sends(client in prop::collection::vec(any::<u8>(), 0..300)) {
            let id = request_id(Some(&client));
            let parts: Vec<&str> = id.split('/').collect();
            prop_assert_eq!(parts.len(), 3);
            prop_assert!((1..=CLIENT_REQUEST_ID_MAX).contains(&parts[0].len()));
            for part in &parts[1..] {
                prop_assert!(part.len() == 32 && part.bytes().all(|byte| b"0123456789ABCDEF".contains(&byte)));
            }
        }
    }
}
