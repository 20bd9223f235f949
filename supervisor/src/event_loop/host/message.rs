//! What host and master say to each other: a pure codec, in the grammar of all messages.

use worker_api::message::{MAX_TEXT, MessageError, number, pairs};

use crate::fleet::WorkerId;

/// What a host tells the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// `HELLO=1`: it has begun.
    Hello,
    /// `READY=1`: all is loaded that can be, and it forks when told.
    Ready,
    /// `FORKED=id` with `PID=n`: the worker is a child of the master now.
    Forked { worker: WorkerId, pid: i32 },
    /// `REFUSED=id` with `REASON=text`: there is no such worker, and will not be.
    Refused { worker: WorkerId, reason: String },
    /// `FATAL=text`: why it is about to exit.
    Fatal(String),
}

/// What the master tells a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Fork a worker; its end of the control channel comes with the message.
    Fork {
        worker: WorkerId,
        slot: usize,
        max_requests: u64,
    },
    /// A worker is dead: `child_exit`.
    Exited {
        worker: WorkerId,
        slot: usize,
        pid: i32,
        status: i32,
    },
    /// The pod is ready: `when_ready`.
    WhenReady,
    /// The number of workers changed: `nworkers_changed`.
    Workers { now: usize, before: usize },
    /// A new generation begins: `on_reload`.
    Reload,
    /// Open log files anew.
    Reopen,
    /// The pod is gone: `on_exit`, and then the end.
    Quit,
}

impl Report {
    /// Everything that a frame says.
    ///
    /// # Errors
    /// The frame is refused whole; so is one that answers half.
    pub(super) fn decode(frame: &[u8]) -> Result<Vec<Self>, MessageError> {
        let mut reports = Vec::new();
        let (mut forked, mut pid, mut refused, mut reason) = (None, None, None, None);
        for pair in pairs(frame)? {
            match pair? {
                ("HELLO", _) => reports.push(Self::Hello),
                ("READY", "1") => reports.push(Self::Ready),
                ("FORKED", id) => forked = Some(WorkerId(number("FORKED", id)?)),
                ("PID", n) => {
                    let n = i32::try_from(number("PID", n)?);
                    pid = Some(n.map_err(|_| MessageError::BadNumber("PID"))?);
                }
                ("REFUSED", id) => refused = Some(WorkerId(number("REFUSED", id)?)),
                ("REASON", text) => reason = Some(clipped(text)),
                ("FATAL", text) => reports.push(Self::Fatal(clipped(text))),
                _ => {}
            }
        }
        if let Some(worker) = forked {
            let pid = pid.ok_or(MessageError::Incomplete("FORKED", "PID"))?;
            reports.push(Self::Forked { worker, pid });
        }
        if let Some(worker) = refused {
            let reason = reason.unwrap_or_default();
            reports.push(Self::Refused { worker, reason });
        }
        Ok(reports)
    }
}

fn clipped(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl Order {
    /// The frame that says this.
    pub(super) fn encode(self) -> Vec<u8> {
        let text = match self {
            Self::Fork {
                worker,
                slot,
                max_requests,
            } => format!(
                "FORK={}\nWORKER={slot}\nMAX_REQUESTS={max_requests}\n",
                worker.0
            ),
            Self::Exited {
                worker,
                slot,
                pid,
                status,
            } => format!(
                "EXITED={}\nWORKER={slot}\nPID={pid}\nSTATUS={status}\n",
                worker.0
            ),
            Self::WhenReady => "WHEN_READY=1\n".to_owned(),
            Self::Workers { now, before } => format!("WORKERS={now}\nBEFORE={before}\n"),
            Self::Reload => "RELOAD=1\n".to_owned(),
            Self::Reopen => "REOPEN=1\n".to_owned(),
            Self::Quit => "QUIT=1\n".to_owned(),
        };
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_is_understood() {
        let decode = |text: &str| Report::decode(text.as_bytes()).unwrap();
        assert_eq!(
            decode("HELLO=1\nREADY=1\nX=2"),
            [Report::Hello, Report::Ready]
        );
        let worker = WorkerId(7);
        assert_eq!(
            decode("PID=12\nFORKED=7"),
            [Report::Forked { worker, pid: 12 }]
        );
        let reason = "pre_fork: no".to_owned();
        assert_eq!(
            decode("REFUSED=7\nREASON=pre_fork: no"),
            [Report::Refused { worker, reason }]
        );
        assert_eq!(decode("FATAL=é"), [Report::Fatal("é".to_owned())]);
    }

    #[test]
    fn half_an_answer_is_none() {
        for frame in [
            "FORKED=7",
            "FORKED=-1\nPID=1",
            "FORKED=1\nPID=99999999999",
            "READY",
        ] {
            assert!(Report::decode(frame.as_bytes()).is_err(), "{frame}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = format!("FATAL={}", "é".repeat(1000));
        let reports = Report::decode(frame.as_bytes()).unwrap();
        assert_eq!(reports, [Report::Fatal("é".repeat(MAX_TEXT / 2))]);
    }

    #[test]
    fn an_order_is_written_as_the_contract_has_it() {
        let order = Order::Fork {
            worker: WorkerId(3),
            slot: 1,
            max_requests: 0,
        };
        assert_eq!(order.encode(), b"FORK=3\nWORKER=1\nMAX_REQUESTS=0\n");
    }
}
