//! Whom to wake.

use std::task::{Context, Waker};

/// Remembers the task of `cx` in the place of another one; without a copy if it is the same.
pub(crate) fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
