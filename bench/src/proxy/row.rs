//! The rows of the tables: what is sent, and what is measured.

use super::load::Load;

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Row {
    /// 100-byte answers
    Small,
    /// 10 KB answers
    #[value(name = "10k")]
    Medium,
    /// 1 MB answers
    #[value(name = "1m")]
    Large,
    /// POSTs of 1 KB
    Post,
    /// TLS handshakes, each with one request
    TlsNew,
    /// The same, resumed
    TlsResumed,
    /// HTTP/2 over TLS, 100 streams a connection
    H2,
    /// The same in HTTP/3
    H3,
    /// 10 KB answers in HTTP/3
    #[value(name = "h3-10k")]
    H3Medium,
    /// 100-byte answers of servers behind TLS
    ToTls,
    /// 10 KB answers of servers behind TLS
    #[value(name = "to-tls-10k")]
    ToTlsMedium,
    /// 100-byte answers over connections that are passed on as they are
    Tcp,
    /// 10 KB answers over them
    #[value(name = "tcp-10k")]
    TcpMedium,
    /// 1 MB answers over them
    #[value(name = "tcp-1m")]
    TcpLarge,
    /// gRPC calls to servers that speak HTTP/2, 100 streams a connection
    Grpc,
    /// Idle connections: memory each
    Idle,
    /// Latency at half load
    Latency,
}

/// What is measured in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// CPU time of the proxy under a load.
    Cpu(Load),
    /// Its memory.
    Memory,
    /// What a client waits.
    Latency,
}

impl Row {
    /// All, in the order of the tables.
    pub(super) const ALL: [Self; 17] = [
        Self::Small,
        Self::Medium,
        Self::Large,
        Self::Post,
        Self::TlsNew,
        Self::TlsResumed,
        Self::H2,
        Self::H3,
        Self::H3Medium,
        Self::ToTls,
        Self::ToTlsMedium,
        Self::Tcp,
        Self::TcpMedium,
        Self::TcpLarge,
        Self::Grpc,
        Self::Idle,
        Self::Latency,
    ];

    /// As `--row` and the tables have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "10k",
            Self::Large => "1m",
            Self::Post => "post",
            Self::TlsNew => "tls-new",
            Self::TlsResumed => "tls-resumed",
            Self::H2 => "h2",
            Self::H3 => "h3",
            Self::H3Medium => "h3-10k",
            Self::ToTls => "to-tls",
            Self::ToTlsMedium => "to-tls-10k",
            Self::Tcp => "tcp",
            Self::TcpMedium => "tcp-10k",
            Self::TcpLarge => "tcp-1m",
            Self::Grpc => "grpc",
            Self::Idle => "idle",
            Self::Latency => "latency",
        }
    }

    pub(super) fn measure(self) -> Measure {
        match self {
            Self::Small | Self::ToTls | Self::Tcp => Measure::Cpu(Load::Get("/")),
            Self::Medium | Self::ToTlsMedium | Self::TcpMedium => Measure::Cpu(Load::Get("/10k")),
            Self::Large | Self::TcpLarge => Measure::Cpu(Load::Get("/1m")),
            Self::Post => Measure::Cpu(Load::Post),
            Self::TlsNew => Measure::Cpu(Load::Handshakes { resumed: false }),
            Self::TlsResumed => Measure::Cpu(Load::Handshakes { resumed: true }),
            Self::H2 => Measure::Cpu(Load::Http2),
            Self::H3 => Measure::Cpu(Load::Http3("/")),
            Self::H3Medium => Measure::Cpu(Load::Http3("/10k")),
            Self::Grpc => Measure::Cpu(Load::Grpc),
            Self::Idle => Measure::Memory,
            Self::Latency => Measure::Latency,
        }
    }

    /// What the names of the proxies' configurations end with, and the first of their ports.
    pub(super) fn setup(self) -> (&'static str, u16) {
        match self {
            Self::TlsNew | Self::TlsResumed | Self::H2 => ("-tls", 18_094),
            // The others of Debian 12 speak none.
            Self::H3 | Self::H3Medium => ("-h3", 18_104),
            Self::Grpc => ("-grpc", 18_097),
            Self::ToTls | Self::ToTlsMedium => ("-to-tls", 18_101),
            Self::Tcp | Self::TcpMedium | Self::TcpLarge => ("-stream", 18_104),
            _ => ("", 18_090),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn rows_are_called_the_same_on_the_command_line_and_in_the_tables() {
        for row in Row::ALL {
            assert_eq!(Row::from_str(row.name(), false).unwrap(), row);
        }
        assert_eq!(Row::value_variants().len(), Row::ALL.len());
    }
}
