//! The app with the sessions of `tower-sessions` as a process of its own.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    axum_sessions::run().await.map_err(Into::into)
}
