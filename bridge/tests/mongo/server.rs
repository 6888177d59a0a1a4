//! A process that speaks MongoDB's protocol, and a network that loses its answers.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use throng_bridge::store::Mongo;

use crate::KEEP;

/// A server of its own, killed when the test ends.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: PathBuf,
    pub(crate) flags: Vec<&'static str>,
}

impl Server {
    pub(crate) async fn start(flags: &[&'static str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("throng-mongo-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        // Without one it would look for settings in the host's own places.
        fs::write(folder.join("server.toml"), "").expect("settings");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = spawn(&folder, port, flags);
        let mut server = Self { child, port, folder, flags: flags.to_vec() };
        server.wait().await;
        server
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, self.port, &self.flags);
        self.wait().await;
    }

    async fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().expect("a state");
            assert!(ended.is_none(), "the server has ended: {}", self.log());
            assert!(Instant::now() < deadline, "the server does not listen: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/", self.port)
    }

    /// This server does not tell the driver that it is well again after an error that says
    /// otherwise, as MongoDB does: the driver has to ask.
    pub(crate) async fn store(&self) -> Mongo {
        let uri = format!("{}?serverMonitoringMode=poll&heartbeatFrequencyMS=500", self.uri());
        Mongo::open(&uri, 4, KEEP).await.expect("a store")
    }

    pub(crate) async fn database(&self) -> Database {
        let uri = format!("{}?appName=test", self.uri());
        Client::with_uri_str(uri).await.expect("a client").database("throng")
    }

    /// Makes commands of the store fail; the test's own do not.
    pub(crate) async fn fail(&self, mode: impl Into<Bson>, mut data: Document) {
        data.insert("appName", "throng");
        let admin = self.database().await.client().database("admin");
        let mode = mode.into();
        let command = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        admin.run_command(command).await.expect("a failpoint");
    }

    pub(crate) async fn heal(&self) {
        self.fail("off", doc! {}).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &Path, port: u16, flags: &[&str]) -> Child {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/secantusd-py");
    let program = std::env::var_os("THRONG_SECANTUSD").map_or(venv, PathBuf::from);
    let log = fs::File::options().create(true).append(true).open(folder.join("log"));
    let spawned = Command::new(&program)
        .args(["--host", "127.0.0.1", "--enable-test-commands", "--port", &port.to_string()])
        .arg("--config")
        .arg(folder.join("server.toml"))
        .arg("--storage-path")
        .arg(folder.join("data"))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log"))
        .spawn();
    spawned.unwrap_or_else(|error| {
        panic!("{}: {error}: run `make setup-python` first", program.display())
    })
}

/// Stands between a client and a server. While it is told to, it lets an insert through to the
/// server and cuts the connection in place of the answer.
pub(crate) struct Cutter {
    pub(crate) port: u16,
    is_cutting: Arc<AtomicBool>,
    cuts: Arc<AtomicU32>,
}

impl Cutter {
    /// Its threads end with their connections, the listening one with the process.
    pub(crate) fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cutter = Self { port, is_cutting: Arc::default(), cuts: Arc::default() };
        let (is_cutting, cuts) = (Arc::clone(&cutter.is_cutting), Arc::clone(&cutter.cuts));
        let to = server.port;
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let (is_cutting, cuts) = (Arc::clone(&is_cutting), Arc::clone(&cuts));
                thread::spawn(move || relay(client, to, &is_cutting, &cuts));
            }
        });
        cutter
    }

    pub(crate) fn cut(&self, is_cutting: bool) {
        self.is_cutting.store(is_cutting, Ordering::SeqCst);
    }

    pub(crate) fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// Carries one connection's bytes. A client asks and waits, so one thread does.
fn relay(mut client: TcpStream, to: u16, is_cutting: &AtomicBool, cuts: &AtomicU32) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
    while let Some(question) = read_message(&mut client) {
        let is_insert = question.windows(8).any(|it| it == b"\x02insert\0");
        if server.write_all(&question).is_err() {
            break;
        }
        let Some(answer) = read_message(&mut server) else { break };
        if is_insert && is_cutting.load(Ordering::SeqCst) {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if client.write_all(&answer).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// A message of the wire protocol: its first four bytes say how long it is.
fn read_message(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).ok()?;
    let bytes = u32::from_le_bytes([message[0], message[1], message[2], message[3]]);
    message.resize(usize::try_from(bytes).ok()?, 0);
    from.read_exact(message.get_mut(4..)?).ok()?;
    Some(message)
}
