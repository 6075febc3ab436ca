//! Frames on a stream. Two bytes of bound and one that says in what pieces the rest arrives.
//! The frames read are those that a reader of the whole cuts out, whatever the pieces, and
//! reading ends for the same reason.

use std::pin::Pin;
use std::task::{Context, Poll};

use ait_net::quic::frames::{FrameError, read};
use tokio::io::{AsyncRead, ReadBuf};

/// A stream of which at most so many bytes are there at once, and none every other time.
struct Pieces<'a> {
    left: &'a [u8],
    most: usize,
    waits: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.waits = !self.waits;
        if self.waits {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = self.left.len().min(self.most).min(out.remaining());
        let (now, later) = self.left.split_at(count);
        out.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

/// What a frame reader should give: the frames, and the length that is too long if one is.
fn cut(mut bytes: &[u8], max: usize) -> (Vec<&[u8]>, Option<usize>) {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length > max {
            return (frames, Some(length));
        }
        let Some((frame, rest)) = rest.split_at_checked(length) else { break };
        frames.push(frame);
        bytes = rest;
    }
    (frames, None)
}

pub fn run(input: &[u8]) {
    let Some(([low, high, most], bytes)) = input.split_first_chunk::<3>() else { return };
    let max = usize::from(u16::from_le_bytes([*low, *high]));
    let (expected, too_long) = cut(bytes, max);
    let mut stream = Pieces { left: bytes, most: usize::from(*most).max(1), waits: false };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for frame in expected {
            assert_eq!(read(&mut stream, max).await.expect("a whole frame"), frame);
        }
        match (read(&mut stream, max).await, too_long) {
            (Err(FrameError::TooLong { bytes, max: bound }), Some(length)) => {
                assert_eq!((bytes, bound), (length, max));
            }
            (Err(FrameError::Ended), None) => {}
            (other, _) => panic!("{other:?}, expected {too_long:?}"),
        }
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
    let three = [frame(b"one"), frame(b""), frame(&[7; 300])].concat();
    let cut_off = &three[..three.len() - 1];
    [
        [&[0, 2, 1][..], &three].concat(),
        [&[0, 2, 255][..], cut_off].concat(),
        [&[2, 0, 3][..], &three].concat(),
        [&[255, 255, 64][..], &frame(&[9; 20_000])].concat(),
    ]
    .to_vec()
}
