//! The way between the two processes of an upgrade: a pair of Unix sockets that nobody else can connect to. One end is the new process's
//! standard input. Sockets and files go with a message (`SCM_RIGHTS` in unix(7)).

use super::Message;
use anyhow::{Context, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    sockopt::{Timeout, set_socket_timeout},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// Descriptors of one message; the kernel takes 253.
pub(crate) const DESCRIPTORS_MAX: usize = 64;

/// Bytes of one message.
const MESSAGE_MAX: usize = 1024;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends. `wait`: how long either waits for a message of the other.
    ///
    /// # Errors
    /// Too many open files.
    pub(crate) fn pair(wait: Duration) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::open(ours, wait)?, theirs))
    }

    /// The end that this process was started with.
    ///
    /// # Errors
    /// It is no socket.
    pub(crate) fn open(socket: OwnedFd, wait: Duration) -> io::Result<Self> {
        set_socket_timeout(&socket, Timeout::Recv, Some(wait))?;
        set_socket_timeout(&socket, Timeout::Send, Some(wait))?;
        Ok(Self(socket))
    }

    /// Sends a message with up to [`DESCRIPTORS_MAX`] descriptors. Blocks.
    ///
    /// # Errors
    /// The other process is gone, or takes nothing.
    pub(crate) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = descriptors.len() <= DESCRIPTORS_MAX;
        if !fits || !(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors))) {
            bail!("{} descriptors are more than the {DESCRIPTORS_MAX} of a message", descriptors.len());
        }
        let sent = sendmsg(self.0.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
        sent.map(drop).map_err(|cause| told(cause, "took no message"))
    }

    /// The next message, and what came with it. Blocks.
    ///
    /// # Errors
    /// The other process is gone, says nothing in time, or something that this version does not know.
    pub(crate) fn receive(&self) -> anyhow::Result<(Message, Vec<OwnedFd>)> {
        let mut bytes = [0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(self.0.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC);
        let received = received.map_err(|cause| told(cause, "said nothing"))?;
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<_> = descriptors.flatten().collect();
        if received.bytes == 0 {
            bail!("the other process has ended");
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            bail!("not all descriptors of a message could be received: too many files are open");
        }
        let said = &bytes[..received.bytes];
        let message = serde_json::from_slice(said).with_context(|| {
            let said = String::from_utf8_lossy(said);
            format!("the other process says `{said}`: the versions do not understand each other, restart the server")
        })?;
        Ok((message, descriptors))
    }

    /// Waits for this very message.
    ///
    /// # Errors
    /// As [`Self::receive`], or it is another one.
    pub(crate) fn expect(&self, expected: &Message) -> anyhow::Result<()> {
        match self.receive()? {
            (message, _) if message == *expected => Ok(()),
            (message, _) => bail!("the other process says {message:?}, expected {expected:?}"),
        }
    }
}

fn told(cause: rustix::io::Errno, what: &str) -> anyhow::Error {
    match io::Error::from(cause) {
        late if late.kind() == io::ErrorKind::WouldBlock => {
            anyhow::anyhow!("the other process {what} in time")
        }
        gone if gone.kind() == io::ErrorKind::ConnectionReset || gone.kind() == io::ErrorKind::BrokenPipe => {
            anyhow::anyhow!("the other process has ended")
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Seek, Write},
    };

    const WAIT: Duration = Duration::from_secs(20);

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair(WAIT).unwrap();
        (ours, Channel::open(theirs, WAIT).unwrap())
    }

    #[test]
    fn a_message_takes_open_files_along() {
        let (ours, theirs) = pair();
        let mut file = tempfile::tempfile().unwrap();
        write!(file, "kept").unwrap();
        let asked = Message::Http { asked: "[::1]:443".parse().unwrap() };
        ours.send(&asked, &[file.as_fd(); DESCRIPTORS_MAX]).unwrap();
        ours.send(&Message::End, &[]).unwrap();
        let (message, mut received) = theirs.receive().unwrap();
        assert_eq!((message, received.len()), (asked, DESCRIPTORS_MAX));
        let mut same = File::from(received.remove(0));
        same.rewind().unwrap();
        let mut text = [0; 4];
        same.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"kept");
        theirs.expect(&Message::End).unwrap();
        let many = ours.send(&Message::Lock, &[file.as_fd(); DESCRIPTORS_MAX + 1]).unwrap_err();
        assert_eq!(many.to_string(), "65 descriptors are more than the 64 of a message");
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let (ours, theirs) = pair();
        ours.send(&Message::Lock, &[]).unwrap();
        let other = theirs.expect(&Message::End).unwrap_err();
        assert_eq!(other.to_string(), "the other process says Lock, expected End");
        rustix::io::write(&ours.0, br#"{"kind":"sing"}"#).unwrap();
        let unknown = theirs.receive().unwrap_err().to_string();
        assert!(
            unknown.starts_with(r#"the other process says `{"kind":"sing"}`: the versions"#),
            "{unknown}"
        );
        set_socket_timeout(&theirs.0, Timeout::Recv, Some(Duration::from_millis(1))).unwrap();
        assert_eq!(theirs.receive().unwrap_err().to_string(), "the other process said nothing in time");
        drop(ours);
        assert_eq!(theirs.receive().unwrap_err().to_string(), "the other process has ended");
        assert_eq!(theirs.send(&Message::Ready, &[]).unwrap_err().to_string(), "the other process has ended");
    }
}
