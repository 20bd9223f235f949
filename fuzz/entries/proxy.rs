//! The PROXY header: what is read of a beginning stays so when more comes.

use worker_http::checks::proxy::{Beginning, read};

pub(crate) fn run(data: &[u8]) {
    let whole = read(data, true);
    if let Ok(Beginning::Header { len, .. }) = whole {
        assert!(len <= data.len());
        assert_eq!(read(&data[..len], true), whole);
    }
    for cut in 0..data.len() {
        let part = read(&data[..cut], true);
        assert!(part == Ok(Beginning::Unclear) || part == whole, "{cut}");
    }
    assert!(!matches!(read(data, false), Ok(Beginning::Header { .. })));
}
