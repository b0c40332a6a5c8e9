//! TLS to the database and the broker, with a private certificate authority and client
//! certificates; and several hosts in one URL.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use fanfare_testkit::Installation;
use fanfare_testkit::build::under_test;
use fanfare_testkit::process::Output;
use fanfare_testkit::proxy::Proxy;
use fanfare_testkit::receiver::Receiver;
use fanfare_testkit::sandbox::Sandbox;
use fanfare_testkit::servers::Servers;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use url::Url;

use crate::world::{SOON, World, event};

/// The `pg_hba.conf`: the testkit's own user may connect to its own database, all other clients
/// need a certificate.
const CLIENTS: &str = "\
host    postgres all 127.0.0.1/32 password
hostssl all      all 127.0.0.1/32 password clientcert=verify-ca
";

/// A certificate authority and the certificates that it has signed, in PEM files.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Makes `<name>.pem` and `<name>.key`.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str], usage: ExtendedKeyUsagePurpose) {
        let mut params = named(name, hosts);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Servers with TLS as `localhost` that require client certificates.
struct Secured {
    ours: Authority,
    theirs: Authority,
    database: Url,
    amqp: Url,
    /// Dropped last, since the servers use its files.
    servers: Servers,
}

impl Secured {
    fn start() -> Self {
        let servers = Servers::start(&std::env::temp_dir()).unwrap();
        let ours = Authority::new(servers.folder(), "ours");
        let theirs = Authority::new(servers.folder(), "theirs");
        ours.sign("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth);
        for authority in [&ours, &theirs] {
            authority.sign("client", &[], ExtendedKeyUsagePurpose::ClientAuth);
        }
        servers.create_database("secured").unwrap();
        servers.create_vhost("secured").unwrap();
        secure_database(&servers, &ours);
        let port = secure_broker(&servers, &ours);
        let mut amqp = Url::parse(&servers.amqp_url("secured")).unwrap();
        amqp.set_port(Some(port)).unwrap();
        let amqp = Url::parse(&amqp.as_str().replacen("amqp:", "amqps:", 1)).unwrap();
        let database = Url::parse(&servers.database_url("secured")).unwrap();
        Self { ours, theirs, database, amqp, servers }
    }

    /// The database's URL with a query.
    fn database(&self, host: &str, query: &str) -> String {
        with(&self.database, host, query)
    }

    /// The broker's URL with a query.
    fn amqp(&self, host: &str, query: &str) -> String {
        with(&self.amqp, host, query)
    }

    /// The URL queries of a client with everything that it needs.
    fn queries(&self) -> (String, String) {
        let (ca, certificate, key) =
            (self.ours.file("ca.pem"), self.ours.file("client.pem"), self.ours.file("client.key"));
        (
            format!("sslmode=verify-full&sslrootcert={ca}&sslcert={certificate}&sslkey={key}"),
            format!("cacertfile={ca}&certfile={certificate}&keyfile={key}"),
        )
    }
}

fn with(url: &Url, host: &str, query: &str) -> String {
    let mut url = url.clone();
    url.set_host(Some(host)).unwrap();
    url.set_query(Some(query));
    url.into()
}

/// Turns on PostgreSQL's TLS, without a restart.
fn secure_database(servers: &Servers, authority: &Authority) {
    let data = servers.folder().join("postgres/data");
    let owner = fs::metadata(&data).unwrap();
    for (from, to) in [("ca.pem", "ca.pem"), ("server.pem", "s.pem"), ("server.key", "s.key")] {
        let to = data.join(to);
        fs::copy(authority.folder.join(from), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    for (name, file) in [("cert", "s.pem"), ("key", "s.key"), ("ca", "ca.pem")] {
        let set = format!("alter system set ssl_{name}_file = '{file}'");
        servers.endpoints().sql("postgres", &set).unwrap();
    }
    servers.endpoints().sql("postgres", "alter system set ssl = on").unwrap();
    fs::write(data.join("pg_hba.conf"), CLIENTS).unwrap();
    servers.stop_database().unwrap();
    servers.start_database().unwrap();
}

/// Turns on RabbitMQ's TLS on a port of its own.
fn secure_broker(servers: &Servers, authority: &Authority) -> u16 {
    // Chosen here, because Erlang does not report a port that it chose itself.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = servers.folder().join("rabbitmq/rabbitmq.conf");
    let known = fs::read_to_string(&file).unwrap();
    let [ca, certificate, key] =
        ["ca.pem", "server.pem", "server.key"].map(|it| authority.file(it));
    let tls = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {ca}\n\
         ssl_options.certfile = {certificate}\n\
         ssl_options.keyfile = {key}\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\n"
    );
    fs::write(&file, known + &tls).unwrap();
    servers.stop_broker().unwrap();
    servers.start_broker().unwrap();
    port
}

/// Runs `fanfare doctor`, which checks both servers and reports the fault of each.
async fn doctor(database_url: &str, amqp_url: &str) -> Output {
    let installation = Installation::new(under_test(), database_url, amqp_url);
    installation.output(&["doctor"], None).await.unwrap()
}

/// Checks that the doctor reports these words of the database and of the broker.
async fn finds(database: (&str, &str), amqp: (&str, &str)) {
    let output = doctor(database.0, amqp.0).await;
    let line = |what: &str| output.stdout.lines().find(|line| line.contains(what)).unwrap();
    assert!(line("database: ").contains(database.1), "{} {output:?}", database.0);
    assert!(line("broker: ").contains(amqp.1), "{} {output:?}", amqp.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_require_valid_certificates() {
    let secured = tokio::task::spawn_blocking(Secured::start).await.unwrap();
    let (database, amqp) = secured.queries();

    // With valid certificates an event is delivered; the first host of each URL is unreachable.
    let hosts = |url: String| url.replacen("@localhost", "@localhost:9,localhost", 1);
    let database_url = hosts(secured.database("localhost", &database));
    let amqp_url = hosts(secured.amqp("localhost", &amqp));
    let world = World::on(&database_url, &amqp_url).await;
    let receiver = Receiver::start().await;
    world.webhook(&receiver.url("/")).await;
    let (_router, _worker) = (world.start("router").await, world.start("worker").await);
    let body = event().to_string();
    let events = std::env::temp_dir().join(format!("fanfare-{}.json", crate::world::unique()));
    fs::write(&events, &body).unwrap();
    world.fanfare(&["publish", events.to_str().unwrap()]).await;
    fs::remove_file(&events).unwrap();
    receiver.wait_for(1, SOON).await;
    let clear = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
                 where application_name like 'fanfare%' and not (ssl and client_dn like '%client%')";
    assert_eq!(secured.servers.endpoints().sql("postgres", clear).unwrap().trim(), "0");

    let ok = "answers";
    let good = (secured.database("localhost", &database), secured.amqp("localhost", &amqp));
    finds((&good.0, ok), (&good.1, ok)).await;

    // An authority that is not trusted, and the one of the system, which does not know ours.
    let untrusted = "signed by an authority that is not trusted here";
    let (theirs, ours) = (secured.theirs.file("ca.pem"), secured.ours.file("ca.pem"));
    let other = |query: &str| query.replace(&ours, &theirs);
    finds(
        (&secured.database("localhost", &other(&database)), untrusted),
        (&secured.amqp("localhost", &other(&amqp)), untrusted),
    )
    .await;

    // A certificate for another name; the check of the name can be turned off.
    let other_name = "is for other names";
    finds(
        (&secured.database("127.0.0.1", &database), other_name),
        (&secured.amqp("127.0.0.1", &amqp), other_name),
    )
    .await;
    finds(
        (&secured.database("127.0.0.1", &database.replace("verify-full", "verify-ca")), ok),
        (&secured.amqp("127.0.0.1", &format!("{amqp}&server_name_indication=localhost")), ok),
    )
    .await;
    finds(
        (
            &secured.database("127.0.0.1", &other(&database).replace("verify-full", "verify-ca")),
            untrusted,
        ),
        (&secured.amqp("127.0.0.1", &format!("{}&verify=verify_none", other(&amqp))), ok),
    )
    .await;

    // No client certificate, one of an authority that the servers don't know, and no TLS.
    let (ours_only, amqp_only) =
        (format!("sslmode=verify-full&sslrootcert={ours}"), format!("cacertfile={ours}"));
    finds(
        (&secured.database("localhost", &ours_only), "valid client certificate"),
        (&secured.amqp("localhost", &amqp_only), "client certificate"),
    )
    .await;
    let foreign = |query: &str| {
        let client = |end: &str| secured.ours.file(&format!("client.{end}"));
        let foreign = |end: &str| secured.theirs.file(&format!("client.{end}"));
        query.replace(&client("pem"), &foreign("pem")).replace(&client("key"), &foreign("key"))
    };
    // The servers' last message may be lost; then the doctor names the likely reason.
    let refused = "not accept";
    finds(
        (&secured.database("localhost", &foreign(&database)), refused),
        (&secured.amqp("localhost", &foreign(&amqp)), refused),
    )
    .await;
    let plain = secured.amqp("localhost", "").replacen("amqps:", "amqp:", 1);
    finds(
        (&secured.database("localhost", "sslmode=disable"), "no encryption"),
        (plain.trim_end_matches('?'), "WRONG"),
    )
    .await;

    // An unreadable file is reported at once, with the exit code for a wrong configuration.
    for (database_url, amqp_url) in [
        (good.0.replace("ca.pem", "nowhere.pem"), good.1.clone()),
        (good.0.clone(), good.1.replace("ca.pem", "nowhere.pem")),
    ] {
        let installation = Installation::new(under_test(), &database_url, &amqp_url);
        let output = installation.output(&["router"], None).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stderr.contains("nowhere.pem"), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_host_is_skipped() {
    let sandbox = Sandbox::new().await;
    let through = |url: &str| {
        let mut first = Url::parse(url).unwrap();
        let real = format!("{}:{}", first.host_str().unwrap(), first.port().unwrap());
        let proxy = Proxy::start(real.parse().unwrap());
        first.set_port(Some(proxy.addr().port())).unwrap();
        let both = format!("@127.0.0.1:{},{real}", proxy.addr().port());
        (first.as_str().replacen(&format!("@127.0.0.1:{}", proxy.addr().port()), &both, 1), proxy)
    };
    let (database_url, mut database) = through(&sandbox.database_url);
    let (amqp_url, mut broker) = through(&sandbox.amqp_url);
    World::on(&database_url, &amqp_url).await;
    for (frozen, what) in
        [(false, "is unreachable"), (true, "accepts connections and does not answer")]
    {
        if frozen {
            database.resume();
            broker.resume();
            database.freeze();
            broker.freeze();
        } else {
            database.cut().await;
            broker.cut().await;
        }
        let output = doctor(&database_url, &amqp_url).await;
        for found in ["database: answers", "broker: answers"] {
            assert!(output.stdout.contains(found), "the first host {what}: {output:?}");
        }
    }
    // A read-only server is not accepted. The message names each host with its reason.
    let name = database_url.rsplit('/').next().unwrap();
    let read_only = format!("alter database {name} set default_transaction_read_only = on");
    sandbox.sql(&read_only).unwrap();
    database.cut().await;
    let read_write = format!("{database_url}?target_session_attrs=read-write");
    let output = doctor(&read_write, &amqp_url).await;
    for found in ["Connection refused", "does not allow writes"] {
        assert!(output.stdout.contains(found), "{output:?}");
    }
}
