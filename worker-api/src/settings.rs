//! What the master's config says about serving, as its workers get it in the environment.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::access_log::Format;
use crate::allowed::AllowedIps;
use crate::inherit::{Env, InheritError};

/// The settings of a worker. Without a master, or without the variable, each has its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a connection may be idle between two requests; default 75 s
    /// (`GRACEFORK_KEEP_ALIVE_USEC`).
    pub keep_alive: Duration,
    /// How long a request's head may take from its first byte on; default 10 s
    /// (`GRACEFORK_HEADER_TIMEOUT_USEC`).
    pub header_timeout: Duration,
    /// How long a request's body may stand still while the app waits for it; default 60 s, 0 is
    /// for ever (`GRACEFORK_BODY_TIMEOUT_USEC`).
    pub body_timeout: Duration,
    /// How long a response may wait for room to be written, since its client does not read; default
    /// 60 s, 0 is for ever (`GRACEFORK_WRITE_TIMEOUT_USEC`).
    pub write_timeout: Duration,
    /// How long requests in flight may take once the worker drains; default 15 s
    /// (`GRACEFORK_DRAIN_TIMEOUT_USEC`).
    pub drain_timeout: Duration,
    /// After so many requests the worker asks to be recycled; default never
    /// (`GRACEFORK_MAX_REQUESTS`, where 0 is never too).
    pub max_requests: Option<NonZeroU64>,
    /// So many connections are open at once, then none is accepted; default 1000
    /// (`GRACEFORK_MAX_CONNECTIONS`).
    pub max_connections: NonZeroUsize,
    /// How many calls of the app may run at once, in drivers that call it on threads of their own;
    /// default 1 (`GRACEFORK_THREADS`).
    pub threads: NonZeroUsize,
    /// The path that is answered with the health before the app sees the request; default none
    /// (`GRACEFORK_HEALTH_PATH`).
    pub health_path: Option<String>,
    /// The status of an unhealthy answer there; default 503 (`GRACEFORK_UNHEALTHY_STATUS`).
    pub unhealthy_status: u16,
    /// Bytes of a request's first line; default 4094, 0 is as many as can be
    /// (`GRACEFORK_LIMIT_REQUEST_LINE`).
    pub limit_request_line: usize,
    /// Fields of a request's head; default 100, 0 is as many as can be
    /// (`GRACEFORK_LIMIT_REQUEST_FIELDS`).
    pub limit_request_fields: usize,
    /// Bytes of one of these fields with its line end; default 8190, which 0 is too
    /// (`GRACEFORK_LIMIT_REQUEST_FIELD_SIZE`).
    pub limit_request_field_size: usize,
    /// Bytes of a request's body; default without limit (`GRACEFORK_MAX_BODY`, where 0 is without
    /// limit too).
    pub max_body: Option<NonZeroU64>,
    /// Whose forwarding headers are believed; default the machine itself
    /// (`GRACEFORK_FORWARDED_ALLOW_IPS`).
    pub forwarded_allow_ips: AllowedIps,
    /// Whose PROXY headers are believed; default the machine itself (`GRACEFORK_PROXY_ALLOW_IPS`).
    pub proxy_allow_ips: AllowedIps,
    /// Whether a connection may begin with a PROXY header; default not
    /// (`GRACEFORK_PROXY_PROTOCOL`, 0 or 1).
    pub proxy_protocol: bool,
    /// Where requests are logged: a path, or `-` for standard output; default nowhere
    /// (`GRACEFORK_ACCESS_LOG`).
    pub access_log: Option<String>,
    /// How a logged request looks; default as gunicorn has it (`GRACEFORK_ACCESS_FORMAT`).
    pub access_format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(75),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(15),
            max_requests: None,
            max_connections: const { NonZeroUsize::new(1000).unwrap() },
            threads: NonZeroUsize::MIN,
            health_path: None,
            unhealthy_status: 503,
            limit_request_line: 4094,
            limit_request_fields: 100,
            limit_request_field_size: 8190,
            max_body: None,
            forwarded_allow_ips: AllowedIps::default(),
            proxy_allow_ips: AllowedIps::default(),
            proxy_protocol: false,
            access_log: None,
            access_format: Format::default(),
        }
    }
}

impl Settings {
    pub(crate) fn from_env(env: &Env) -> Result<Self, InheritError> {
        let mut settings = Self::default();
        settings.read_times(env)?;
        settings.read_limits(env)?;
        settings.max_requests = env
            .number("GRACEFORK_MAX_REQUESTS")?
            .and_then(NonZeroU64::new);
        settings.health_path = env
            .text("GRACEFORK_HEALTH_PATH")?
            .filter(|path| !path.is_empty());
        settings.unhealthy_status = match env.number::<u16>("GRACEFORK_UNHEALTHY_STATUS")? {
            None => settings.unhealthy_status,
            Some(status @ 100..=599) => status,
            Some(_) => return Err(env.bad("GRACEFORK_UNHEALTHY_STATUS")),
        };
        settings.proxy_protocol = match env.number::<u8>("GRACEFORK_PROXY_PROTOCOL")? {
            None | Some(0) => false,
            Some(1) => true,
            Some(_) => return Err(env.bad("GRACEFORK_PROXY_PROTOCOL")),
        };
        settings.access_log = env
            .text("GRACEFORK_ACCESS_LOG")?
            .filter(|target| !target.is_empty());
        if let Some(format) = env.text("GRACEFORK_ACCESS_FORMAT")? {
            settings.access_format =
                Format::parse(&format).map_err(|_| env.bad("GRACEFORK_ACCESS_FORMAT"))?;
        }
        Ok(settings)
    }

    fn read_times(&mut self, env: &Env) -> Result<(), InheritError> {
        for (name, time) in [
            ("GRACEFORK_KEEP_ALIVE_USEC", &mut self.keep_alive),
            ("GRACEFORK_HEADER_TIMEOUT_USEC", &mut self.header_timeout),
            ("GRACEFORK_BODY_TIMEOUT_USEC", &mut self.body_timeout),
            ("GRACEFORK_WRITE_TIMEOUT_USEC", &mut self.write_timeout),
            ("GRACEFORK_DRAIN_TIMEOUT_USEC", &mut self.drain_timeout),
        ] {
            if let Some(micros) = env.number(name)? {
                *time = Duration::from_micros(micros);
            }
        }
        Ok(())
    }

    fn read_limits(&mut self, env: &Env) -> Result<(), InheritError> {
        for (name, limit) in [
            ("GRACEFORK_LIMIT_REQUEST_LINE", &mut self.limit_request_line),
            (
                "GRACEFORK_LIMIT_REQUEST_FIELDS",
                &mut self.limit_request_fields,
            ),
            (
                "GRACEFORK_LIMIT_REQUEST_FIELD_SIZE",
                &mut self.limit_request_field_size,
            ),
        ] {
            if let Some(number) = env.number(name)? {
                *limit = number;
            }
        }
        if let Some(bytes) = env.number("GRACEFORK_MAX_BODY")? {
            self.max_body = NonZeroU64::new(bytes);
        }
        if let Some(most) = env.number("GRACEFORK_MAX_CONNECTIONS")? {
            self.max_connections = most;
        }
        if let Some(threads) = env.number("GRACEFORK_THREADS")? {
            self.threads = threads;
        }
        if let Some(addresses) = env.number("GRACEFORK_FORWARDED_ALLOW_IPS")? {
            self.forwarded_allow_ips = addresses;
        }
        if let Some(addresses) = env.number("GRACEFORK_PROXY_ALLOW_IPS")? {
            self.proxy_allow_ips = addresses;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_the_environment_or_are_the_defaults() {
        assert_eq!(
            Settings::from_env(&Env::of(&[])).unwrap(),
            Settings::default()
        );
        let settings = Settings::from_env(&Env::of(&[
            ("GRACEFORK_KEEP_ALIVE_USEC", "1000000"),
            ("GRACEFORK_HEADER_TIMEOUT_USEC", "2"),
            ("GRACEFORK_BODY_TIMEOUT_USEC", "5"),
            ("GRACEFORK_DRAIN_TIMEOUT_USEC", "3"),
            ("GRACEFORK_MAX_REQUESTS", "4"),
            ("GRACEFORK_THREADS", "8"),
            ("GRACEFORK_HEALTH_PATH", "/health"),
            ("GRACEFORK_UNHEALTHY_STATUS", "500"),
            ("GRACEFORK_MAX_CONNECTIONS", "6"),
            ("GRACEFORK_LIMIT_REQUEST_LINE", "7"),
            ("GRACEFORK_LIMIT_REQUEST_FIELDS", "8"),
            ("GRACEFORK_LIMIT_REQUEST_FIELD_SIZE", "9"),
            ("GRACEFORK_MAX_BODY", "10"),
            ("GRACEFORK_FORWARDED_ALLOW_IPS", "10.0.0.0/8"),
            ("GRACEFORK_PROXY_ALLOW_IPS", "192.0.2.1"),
            ("GRACEFORK_WRITE_TIMEOUT_USEC", "11"),
            ("GRACEFORK_PROXY_PROTOCOL", "1"),
            ("GRACEFORK_ACCESS_LOG", "-"),
            ("GRACEFORK_ACCESS_FORMAT", "json"),
        ]));
        let expected = Settings {
            keep_alive: Duration::from_secs(1),
            header_timeout: Duration::from_micros(2),
            body_timeout: Duration::from_micros(5),
            drain_timeout: Duration::from_micros(3),
            max_requests: NonZeroU64::new(4),
            threads: NonZeroUsize::new(8).unwrap(),
            health_path: Some("/health".to_owned()),
            unhealthy_status: 500,
            max_connections: NonZeroUsize::new(6).unwrap(),
            limit_request_line: 7,
            limit_request_fields: 8,
            limit_request_field_size: 9,
            max_body: NonZeroU64::new(10),
            forwarded_allow_ips: "10.0.0.0/8".parse().unwrap(),
            proxy_allow_ips: "192.0.2.1".parse().unwrap(),
            write_timeout: Duration::from_micros(11),
            proxy_protocol: true,
            access_log: Some("-".to_owned()),
            access_format: Format::parse("json").unwrap(),
        };
        assert_eq!(settings.unwrap(), expected);
        let off = [
            ("GRACEFORK_MAX_REQUESTS", "0"),
            ("GRACEFORK_HEALTH_PATH", ""),
            ("GRACEFORK_MAX_BODY", "0"),
            ("GRACEFORK_PROXY_PROTOCOL", "0"),
        ];
        assert_eq!(
            Settings::from_env(&Env::of(&off)).unwrap(),
            Settings::default()
        );
    }

    #[test]
    fn a_value_that_does_not_fit_is_told_by_name() {
        for (name, value) in [
            ("GRACEFORK_KEEP_ALIVE_USEC", "75s"),
            ("GRACEFORK_MAX_REQUESTS", "-1"),
            ("GRACEFORK_THREADS", "0"),
            ("GRACEFORK_UNHEALTHY_STATUS", "99"),
            ("GRACEFORK_UNHEALTHY_STATUS", "600"),
            ("GRACEFORK_ACCESS_FORMAT", "%(x)s"),
            ("GRACEFORK_MAX_CONNECTIONS", "0"),
            ("GRACEFORK_FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
            ("GRACEFORK_PROXY_ALLOW_IPS", "localhost"),
            ("GRACEFORK_PROXY_PROTOCOL", "2"),
        ] {
            let error = Settings::from_env(&Env::of(&[(name, value)]))
                .unwrap_err()
                .to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
