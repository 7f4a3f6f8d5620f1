//! Standard input and output, a message a line. What is no JSON gets the answer that JSON-RPC has for it; the library behind
//! ignores such lines, and whoever wrote one would wait.

use serde::de::IgnoredAny;
use serde_json::json;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split, stdin, stdout,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The longest line; what is longer is told to be none of ours.
const LONGEST: usize = 4 << 20;
/// Bytes that wait between the two ends.
const BUFFER: usize = 64 << 10;
/// Complaints that wait for standard output.
const WAITING: usize = 16;

/// What a server reads and writes.
pub(super) type Ends = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

/// The ends, and what has written all that was answered once the server has let go of them.
pub(super) fn standard() -> (Ends, JoinHandle<()>) {
    let (near, far) = duplex(BUFFER);
    let (answers, requests) = split(far);
    let (complain, complaints) = mpsc::channel(WAITING);
    tokio::spawn(read(BufReader::new(stdin()), requests, complain));
    (split(near), tokio::spawn(write(answers, complaints, stdout())))
}

/// Hands on what is JSON, and complains of the rest, until there is no more.
async fn read(
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    complain: mpsc::Sender<String>,
) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        let Ok(1..) = (&mut from).take(most).read_until(b'\n', &mut line).await else { break };
        let is_whole = line.ends_with(b"\n") || line.len() < LONGEST;
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let fault = if is_whole {
            serde_json::from_slice::<IgnoredAny>(text).err().map(|error| error.to_string())
        } else {
            skip_line(&mut from).await;
            Some(format!("a line is longer than {LONGEST} bytes"))
        };
        let handed = match fault {
            Some(fault) => complain.send(fault).await.is_ok(),
            None => to.write_all(text).await.is_ok() && to.write_all(b"\n").await.is_ok(),
        };
        if !handed {
            break;
        }
    }
    // Nobody asks any more.
    let _ = to.shutdown().await;
}

/// Reads what is left of a line, and keeps nothing of it.
async fn skip_line(from: &mut (impl AsyncBufRead + Unpin)) {
    while let Ok(part) = from.fill_buf().await {
        let end = part.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(part.len(), |end| end + 1);
        from.consume(length);
        if end.is_some() || length == 0 {
            return;
        }
    }
}

/// Writes what is answered, and complaints between two answers.
async fn write(
    from: impl AsyncRead + Unpin,
    mut complaints: mpsc::Receiver<String>,
    mut to: impl AsyncWrite + Unpin,
) {
    let mut answers = BufReader::new(from).lines();
    loop {
        let line = tokio::select! {
            answer = answers.next_line() => match answer {
                Ok(Some(answer)) => answer,
                _ => return,
            },
            Some(fault) = complaints.recv() => {
                // JSON-RPC 2.0 §5.1: without an id, as none could be read.
                let message = format!("not JSON: {fault}");
                json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32700, "message": message } }).to_string()
            }
        };
        let line = line + "\n";
        if to.write_all(line.as_bytes()).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}
