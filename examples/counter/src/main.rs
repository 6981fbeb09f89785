//! The demo app as a process of its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    counter::run().await.map_err(Into::into)
}
