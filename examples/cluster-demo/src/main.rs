//! The demo of the cluster as a process of its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    cluster_demo::run().await.map_err(Into::into)
}
