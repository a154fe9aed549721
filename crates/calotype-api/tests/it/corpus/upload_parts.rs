//! Which of 16 parts were uploaded, a bit each, and the body by which an upload is committed.

use std::collections::BTreeMap;

use calotype_api::ErrorCode;
use calotype_api::body::from_json;
use calotype_api::objects::CommitMultipartUploadDetails;
use calotype_api::upload_parts::choose;

pub(crate) fn run(data: &[u8]) {
    let Some((there, body)) = data.split_first_chunk() else { return };
    let there = u16::from_be_bytes(*there);
    let Ok(details) = from_json::<CommitMultipartUploadDetails>(body) else { return };
    let all: BTreeMap<u32, (String, u32)> = (0..16)
        .filter(|number| there >> number & 1 == 1)
        .map(|number| (number, (format!("e{number}"), number)))
        .collect();
    let wanted = details.parts_to_commit;
    match choose(&all, &wanted) {
        Ok(chosen) => {
            assert!(chosen.is_sorted_by(|first, second| first < second));
            assert_eq!(chosen.len(), wanted.len());
            let named = |number: &u32| wanted.iter().any(|part| part.part_num == *number);
            assert!(chosen.iter().all(|number| all.contains_key(number) && named(number)));
        }
        Err(error) => {
            assert_eq!(error.code, ErrorCode::InvalidUploadPart);
            assert!(error.message.len() < 100, "{error}");
        }
    }
}
