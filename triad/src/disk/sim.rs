//! A disk for tests: it can fail from a chosen operation on, and a crash keeps of what was not synced any prefix, or nothing.

use super::{Disk, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Arc, Mutex},
};

type Names = BTreeMap<String, Arc<Mutex<Content>>>;

#[derive(Debug, Default, Clone)]
struct Content {
    data: Vec<u8>,
    synced: Vec<u8>,
    /// What a sync would write. A sync that fails forgets it, as Linux does: the pages count as clean ("fsyncgate").
    dirty: Vec<Range<usize>>,
}

impl Content {
    fn of(data: Vec<u8>) -> Self {
        Self { synced: data.clone(), data, dirty: Vec::new() }
    }

    fn sync(&mut self) {
        self.synced.resize(self.data.len(), 0);
        for range in self.dirty.drain(..) {
            let range = range.start.min(self.data.len())..range.end.min(self.data.len());
            self.synced[range.clone()].copy_from_slice(&self.data[range]);
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    names: Names,
    durable: Names,
    /// Operations that still succeed.
    left: Option<u64>,
    /// Nothing works any more, and what is under way is not reported as done.
    off: bool,
}

/// The disk; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Inner>>);

impl SimDisk {
    /// All operations after the next `count` fail as on a full disk; the first of them is done in half.
    pub(crate) fn fail_after(&self, count: u64) {
        self.0.lock().unwrap().left = Some(count);
    }

    /// Whatever is not done by now is never reported as done: [`SimDisk::crash`] shows what a machine that lost power finds.
    pub(crate) fn power_off(&self) {
        self.0.lock().unwrap().off = true;
    }

    fn is_on(&self) -> io::Result<()> {
        if self.0.lock().unwrap().off {
            Err(io::Error::other("the simulated disk has no power"))
        } else {
            Ok(())
        }
    }

    /// The disk as the next process finds it: nothing is lost, all works again, and what a failed sync forgot stays forgotten.
    pub(crate) fn reopen(&self) -> Self {
        self.fail_after(u64::MAX);
        self.clone()
    }

    /// The disk after a crash. Of each file's unsynced end, `keep` of 256 parts are found.
    pub(crate) fn crash(&self, keep: u8) -> Self {
        let inner = self.0.lock().unwrap();
        let survived = |content: &Arc<Mutex<Content>>| {
            let Content { data, synced, .. } = content.lock().unwrap().clone();
            let mut found = synced;
            if data.len() > found.len() && data.starts_with(&found) {
                let unsynced = &data[found.len()..];
                found.extend_from_slice(&unsynced[..unsynced.len() * usize::from(keep) / 256]);
            }
            Arc::new(Mutex::new(Content::of(found)))
        };
        let names: Names = inner.durable.iter().map(|(name, it)| (name.clone(), survived(it))).collect();
        Self(Arc::new(Mutex::new(Inner { durable: names.clone(), names, ..Inner::default() })))
    }

    /// Another disk with the same files, all of them synced.
    pub(crate) fn copy(&self) -> Self {
        let inner = self.0.lock().unwrap();
        let copied =
            |it: &Arc<Mutex<Content>>| Arc::new(Mutex::new(Content::of(it.lock().unwrap().data.clone())));
        let names: Names = inner.names.iter().map(|(name, it)| (name.clone(), copied(it))).collect();
        Self(Arc::new(Mutex::new(Inner { durable: names.clone(), names, ..Inner::default() })))
    }

    /// Changes a file's bytes behind everyone's back.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let inner = self.0.lock().unwrap();
        let mut content = inner.names[name].lock().unwrap();
        edit(&mut content.data);
        *content = Content::of(std::mem::take(&mut content.data));
    }

    fn operation(&self) -> io::Result<()> {
        self.is_on()?;
        match &mut self.0.lock().unwrap().left {
            Some(0) => Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn absent(name: &str) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("no file {name} on the simulated disk"))
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.operation()?;
        let content = Arc::new(Mutex::new(Content::default()));
        self.0.lock().unwrap().names.insert(name.to_owned(), content.clone());
        Ok(Arc::new(SimFile { disk: self.clone(), content }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.0.lock().unwrap().names.get(name).cloned().ok_or_else(|| Self::absent(name))?;
        Ok(Arc::new(SimFile { disk: self.clone(), content }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operation()?;
        self.0.lock().unwrap().names.remove(name).map(drop).ok_or_else(|| Self::absent(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operation()?;
        let mut inner = self.0.lock().unwrap();
        let content = inner.names.remove(from).ok_or_else(|| Self::absent(from))?;
        inner.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.operation()?;
        let mut inner = self.0.lock().unwrap();
        inner.durable = inner.names.clone();
        drop(inner);
        self.is_on()
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    content: Arc<Mutex<Content>>,
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let allowed = self.disk.operation();
        let written = if allowed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let offset = usize::try_from(offset).unwrap();
        let mut content = self.content.lock().unwrap();
        let range = offset..offset + written.len();
        let length = content.data.len().max(range.end);
        content.data.resize(length, 0);
        content.data[range.clone()].copy_from_slice(written);
        content.dirty.push(range);
        allowed
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let content = self.content.lock().unwrap();
        let found = content.data.get(offset..offset + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().data.len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.operation()?;
        self.content.lock().unwrap().data.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let allowed = self.disk.operation();
        let mut content = self.content.lock().unwrap();
        match allowed {
            Ok(()) => content.sync(),
            Err(_) => content.dirty.clear(),
        }
        allowed.and_then(|()| self.disk.is_on())
    }
}
