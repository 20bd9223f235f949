//! A whole connection: pieces make no difference, and hyper has nothing to refuse.

use crate::wire;

/// The first byte says how the rest is cut.
pub(crate) fn run(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    let whole = wire::send([bytes]);
    let cut = wire::send(bytes.chunks(usize::from(*how).max(1)));
    let statuses = |outcome: &wire::Outcome| {
        let mut statuses = outcome.statuses();
        statuses.retain(|status| *status != 100);
        statuses
    };
    assert_eq!(whole.seen, cut.seen);
    assert_eq!(statuses(&whole), statuses(&cut));
    assert!(whole.closed && cut.closed);
    // hyper's own refusals have no text.
    let refused = statuses(&whole).iter().any(|status| *status >= 400);
    assert!(
        !refused || whole.answers.contains("content-type: text/plain"),
        "{}",
        whole.answers
    );
}
