//! Text as the path of an object's URL, and as a name that becomes one.

use calotype_api::object_head::check_name;
use calotype_api::object_url::ObjectPath;
use calotype_api::percent;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(path) = ObjectPath::parse(text) {
        assert_eq!(ObjectPath::parse(&path.to_string()), Some(path));
    }
    let [namespace, bucket] = ["n", "b"].map(ToOwned::to_owned);
    let path = ObjectPath { token: None, namespace, bucket, object: text.to_owned() };
    let written = path.to_string();
    assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written}");
    assert_eq!(ObjectPath::parse(&written), Some(path));
    if let Err(error) = check_name(text) {
        assert!(error.message.len() < 200, "{error}");
    }
    assert_eq!(percent::decode(&percent::encode(text), true).as_deref(), Some(text));
}
