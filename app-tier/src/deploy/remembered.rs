//! What the hub last said of its apps, on this server's disk: a server that starts while there is no hub runs what it ran before.

use common::private;
use prost::Message;
use proto::hub::v1::{App, AppList};
use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc};

/// The file in the folder of checked-out versions.
const FILE: &str = "deployed";

/// The file, and what was written to it last.
#[derive(Debug)]
pub(crate) struct Remembered {
    file: PathBuf,
    written: Option<Vec<u8>>,
}

impl Remembered {
    /// In the folder of checked-out versions, which need not be there.
    pub(crate) fn new(folder: &std::path::Path) -> Self {
        Self { file: folder.join(FILE), written: None }
    }

    /// Keeps what the hub says. Should that not be possible, the server goes on, and would start without.
    pub(crate) async fn keep(&mut self, apps: &BTreeMap<String, App>) {
        let bytes = AppList { apps: apps.values().cloned().collect() }.encode_to_vec();
        if self.written.as_ref() == Some(&bytes) {
            return;
        }
        let (file, content) = (self.file.clone(), bytes.clone());
        let written = tokio::task::spawn_blocking(move || {
            file.parent().map_or(Ok(()), private::make_folder)?;
            private::write(&file, &content)
        });
        match written.await.map_err(io::Error::other).and_then(|it| it) {
            Ok(()) => self.written = Some(bytes),
            Err(cause) => {
                let path = self.file.display();
                tracing::warn!(%path, %cause, "what the hub says of its apps can't be kept on disk");
            }
        }
    }

    /// What was kept; none when there is nothing that can be read.
    pub(crate) fn recall(&self) -> Option<Arc<BTreeMap<String, App>>> {
        let list = AppList::decode(fs::read(&self.file).ok()?.as_slice()).ok()?;
        Some(Arc::new(list.apps.into_iter().map(|app| (app.tag.clone(), app)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_recalled_and_garbage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut remembered = Remembered::new(&folder.path().join("apps"));
        assert_eq!(remembered.recall(), None);
        let app = App { tag: "production/webapp/default/shop".into(), ..App::default() };
        let apps = BTreeMap::from([(app.tag.clone(), app)]);
        remembered.keep(&apps).await;
        assert_eq!(*Remembered::new(&folder.path().join("apps")).recall().unwrap(), apps);
        fs::write(&remembered.file, b"\xff\xff\xff").unwrap();
        assert_eq!(remembered.recall(), None);
    }
}
