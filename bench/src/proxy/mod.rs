//! Proxied requests beside nginx and HAProxy: the proxy on one core, load and backends on the other. CPU time of the proxy a
//! request is steadier than requests a second, so that is what the tables are about; besides, memory a connection, and latency.

mod contender;
mod load;
mod memory;
mod row;
mod table;
mod wait;

use crate::{
    median,
    process::{Process, raise_open_files},
    say,
};
use contender::{Contender, address, contenders, prepare, refusal};
use load::Load;
pub(crate) use load::{h2load_count, wrk_count};
use row::{Measure, Row};
use std::path::{Path, PathBuf};

/// The proxy's core, and the one of everything else.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;

/// The ports of the backends: plain, over TLS, in HTTP/2, and behind the cluster port's handshake.
const PLAIN: [u16; 2] = [18_081, 18_082];
const TLS: [u16; 2] = [18_085, 18_086];
const H2C: [u16; 2] = [18_083, 18_084];
const CLUSTER: [(&str, u16); 2] = [("app-a", 16_800), ("app-b", 16_801)];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// The folder of the peers' configurations
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// Runs; the tables show their median
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds a run
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Measures these rows alone
    #[arg(long = "row", value_enum, value_name = "ROW")]
    rows: Vec<Row>,
    /// Measures these proxies alone
    #[arg(long)]
    only: Vec<String>,
    /// Idle connections in the row `idle`
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Requests a second in the row `latency`; without it half of what the slowest proxy can do
    #[arg(long)]
    rate: Option<f64>,
}

/// What the rows need.
struct Bench<'a> {
    arguments: &'a Arguments,
    folder: &'a Path,
    open_files: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let open_files = raise_open_files()?;
    prepare(&arguments.peers, folder.path())?;
    let _backends = start_backends(folder.path())?;
    let bench = Bench { arguments, folder: folder.path(), open_files };
    let rows: Vec<_> =
        Row::ALL.into_iter().filter(|it| arguments.rows.is_empty() || arguments.rows.contains(it)).collect();
    bench.cpu_rows(&rows)?;
    for row in rows {
        match row.measure() {
            Measure::Cpu(_) => {}
            Measure::Memory => bench.memory()?,
            Measure::Latency => bench.latency()?,
        }
    }
    Ok(())
}

fn start_backends(folder: &Path) -> anyhow::Result<Process> {
    let mut words = vec!["backend".to_owned()];
    words.extend(PLAIN.iter().flat_map(|port| ["--plain".to_owned(), address(*port).to_string()]));
    words.extend(TLS.iter().flat_map(|port| ["--tls".to_owned(), address(*port).to_string()]));
    for (option, file) in [("--cert", "cert.pem"), ("--key", "key.pem")] {
        words.extend([option.to_owned(), folder.join(file).to_string_lossy().into_owned()]);
    }
    words.extend(H2C.iter().flat_map(|port| ["--h2c".to_owned(), address(*port).to_string()]));
    words.extend(
        CLUSTER.iter().flat_map(|(id, port)| ["--cluster".to_owned(), format!("{id}={}", address(*port))]),
    );
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let this = std::env::current_exe()?;
    let mut backends = Process::start(&this, &words, Some(LOAD_CORE), &folder.join("backend.log"))?;
    for port in PLAIN.into_iter().chain(TLS).chain(H2C).chain(CLUSTER.map(|(_, port)| port)) {
        backends.listening(address(port))?;
    }
    Ok(backends)
}

impl Bench<'_> {
    /// The proxies of a row that were asked for; says which can't take part.
    fn contenders(&self, row: Row) -> anyhow::Result<Vec<Contender>> {
        let only = &self.arguments.only;
        let mut list = contenders(row, &self.arguments.copal, self.folder)?;
        list.retain(|it| only.is_empty() || only.iter().any(|name| name == it.name));
        if let Some(why) = refusal(row, &list, self.folder)? {
            say(&format!("{}: skipped for copal, as this build can't do it: {why}", row.name()));
            list.retain(|it| it.name != "copal");
        }
        Ok(list)
    }

    /// The table of CPU times.
    fn cpu_rows(&self, rows: &[Row]) -> anyhow::Result<()> {
        let mut table = Vec::new();
        for row in rows {
            let Measure::Cpu(load) = row.measure() else { continue };
            if let Err(cause) = self.cpu_row(*row, load, &mut table) {
                say(&format!("{}: skipped: {cause:#}", row.name()));
                table.retain(|line: &table::CpuLine| line.row != row.name());
            }
        }
        table::cpu(&table);
        Ok(())
    }

    fn cpu_row(&self, row: Row, load: Load, table: &mut Vec<table::CpuLine>) -> anyhow::Result<()> {
        let contenders = self.contenders(row)?;
        let mut measured: Vec<[Vec<f64>; 3]> = vec![Default::default(); contenders.len()];
        for _ in 0..self.arguments.runs {
            for (contender, columns) in contenders.iter().zip(&mut measured) {
                let values = self.cpu(contender, load)?;
                columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
            }
        }
        for (contender, columns) in contenders.iter().zip(measured) {
            let [user, system, rate] = columns.map(median);
            table.push(table::CpuLine { row: row.name(), proxy: contender.name, user, system, rate });
        }
        Ok(())
    }

    /// CPU microseconds a request in user and in kernel space, and requests a second.
    fn cpu(&self, contender: &Contender, load: Load) -> anyhow::Result<[f64; 3]> {
        let proxy = contender.start(self.folder, PROXY_CORE)?;
        load.run(contender.address, 1, self.folder)?;
        let before = proxy.cpu()?;
        let requests = load.run(contender.address, self.arguments.seconds, self.folder)?;
        let used = proxy.cpu()?.since(before);
        let rate = requests / f64::from(self.arguments.seconds);
        Ok([used.user / requests * 1e6, used.system / requests * 1e6, rate])
    }
}
