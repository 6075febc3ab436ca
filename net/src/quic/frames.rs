//! Length-prefixed frames on streams. A length is checked before anything is allocated.

use std::io;

use quinn::SendStream;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a frame was not read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream or the connection ended.
    #[error("the stream ended")]
    Ended,
    /// It is longer than any frame of its kind.
    #[error("a frame of {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

impl From<io::Error> for FrameError {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

/// Reads one frame of at most `max` bytes.
///
/// # Errors
/// [`FrameError`] when the stream ends before the frame does, or the frame is too long.
pub async fn read<R: AsyncRead + Unpin>(stream: &mut R, max: usize) -> Result<Vec<u8>, FrameError> {
    let bytes = length(stream, max).await?;
    rest(stream, bytes).await
}

/// The length of the next frame.
pub(super) async fn length<R: AsyncRead + Unpin>(
    stream: &mut R,
    max: usize,
) -> Result<usize, FrameError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if bytes > max { Err(FrameError::TooLong { bytes, max }) } else { Ok(bytes) }
}

/// A frame of this length.
pub(super) async fn rest<R: AsyncRead + Unpin>(
    stream: &mut R,
    bytes: usize,
) -> Result<Vec<u8>, FrameError> {
    // Grows with what arrives: a length is only a claim.
    let mut frame = Vec::with_capacity(bytes.min(64 * 1024));
    while frame.len() < bytes {
        let at = frame.len();
        frame.resize(bytes.min(at.saturating_add(64 * 1024)), 0);
        stream.read_exact(frame.get_mut(at..).unwrap_or_default()).await?;
    }
    Ok(frame)
}

pub(super) async fn write(stream: &mut SendStream, frame: &[u8]) -> Result<(), quinn::WriteError> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    if frame.len() < 1_024 {
        // One write, so that a small frame is one packet.
        let mut bytes = Vec::with_capacity(frame.len().saturating_add(4));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(frame);
        return stream.write_all(&bytes).await;
    }
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(frame).await
}
