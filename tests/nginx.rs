//! The console behind nginx with the example configuration of `docs/proxies.md`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use fanfare_testkit::nginx;
use fanfare_testkit::process::Process;
use fanfare_testkit::wait::eventually;
use rcgen::ExtendedKeyUsagePurpose;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::console::{Console, PASSWORD};
use crate::python_env::root;
use crate::tls::Authority;
use crate::world::{SOON, World, unique};

/// The name in the example.
const HOST: &str = "fanfare.example.org";
const REGISTRATIONS: &str = "/api/webhooks/registrations";
/// An address that needs no verification, and to which no request is sent.
const QUIET: &str = "http://192.0.2.1/hook?noecho";

/// A console behind nginx.
struct Site {
    _nginx: Process,
    console: Console,
    /// The origin that browsers use.
    origin: String,
    open: String,
    http: Client,
    cookie: Option<String>,
    folder: PathBuf,
}

/// The example configuration from the page.
fn example() -> String {
    let page = fs::read_to_string(root().join("docs/proxies.md")).unwrap();
    let (_, rest) = page.split_once("```nginx\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

impl Site {
    /// Starts nginx with the example, its ports and files replaced, and the changes of `changed`;
    /// `named` sets the console's address.
    async fn start(changed: &[(&str, &str)], named: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("fanfare-nginx-{}", unique()));
        fs::create_dir(&folder).unwrap();
        let authority = Authority::new(&folder, "ours");
        authority.sign("server", &[HOST], ExtendedKeyUsagePurpose::ServerAuth);
        let [tls, plain] = nginx::free_ports().unwrap();
        let origin = format!("https://{HOST}:{tls}");
        let mut world = World::new().await;
        if named {
            world = world.with("FANFARE_CONSOLE_URL", &origin);
        }
        let console = Console::on(world).await;
        console.add(&["anna"], &[]).await;
        let mut site = example();
        let (tls_listen, plain_listen) =
            (format!("listen 127.0.0.1:{tls} ssl;"), format!("listen 127.0.0.1:{plain};"));
        let (address, pem, key) = (
            console.address.to_string(),
            authority.file("server.pem"),
            authority.file("server.key"),
        );
        let replaced = [
            ("listen 443 ssl;", tls_listen.as_str()),
            ("listen 80;", &plain_listen),
            ("127.0.0.1:8080", &address),
            ("/etc/ssl/fanfare.pem", &pem),
            ("/etc/ssl/fanfare.key", &key),
        ];
        for (from, to) in replaced.iter().chain(changed) {
            assert!(site.contains(from), "no {from} in {site}");
            site = site.replace(from, to);
        }
        let to_start = folder.clone();
        let nginx = tokio::task::spawn_blocking(move || nginx::start(&to_start, &site));
        let nginx = nginx.await.unwrap().unwrap();
        let ca = Certificate::from_pem(&fs::read(authority.file("ca.pem")).unwrap()).unwrap();
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let http = Client::builder()
            .tls_certs_only([ca])
            .resolve(HOST, here)
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        let open = format!("http://{HOST}:{plain}");
        let site = Self { _nginx: nginx, console, origin, open, http, cookie: None, folder };
        eventually("nginx answers", SOON, async || site.http.get(&site.open).send().await).await;
        site
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.origin));
        match &self.cookie {
            Some(cookie) => request.header("Cookie", cookie),
            None => request,
        }
    }

    /// Sends a form as a browser does that has no `Sec-Fetch-Site`.
    async fn post(&self, path: &str, form: String) -> Response {
        self.request(Method::POST, path)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Origin", &self.origin)
            .body(form)
            .send()
            .await
            .unwrap()
    }

    /// Signs in, and creates a webhook with the form.
    async fn check_pages(&mut self) {
        let answer = self.post("/sign-in", format!("name=anna&password={PASSWORD}")).await;
        assert_eq!(answer.status(), 303);
        let cookie = header(&answer, "set-cookie");
        assert!(cookie.starts_with("__Host-fanfare_session="), "{cookie}");
        assert!(cookie.ends_with("; Secure"), "{cookie}");
        self.cookie = cookie.split(';').next().map(str::to_owned);
        let page = self.request(Method::GET, "/webhooks/new").send().await.unwrap();
        assert_eq!(page.status(), 200);
        let page = page.text().await.unwrap();
        let token =
            page.split_once(r#"name="token" value=""#).unwrap().1.split('"').next().unwrap();
        let form = format!("token={token}&url=http%3A%2F%2F192.0.2.1%2F%3Fnoecho&filter=tasks");
        let answer = self.post("/webhooks", form).await;
        assert_eq!(answer.status(), 303);
        let path = header(&answer, "location");
        assert!(path.starts_with("/webhooks/") && path.ends_with("?done=created"), "{path}");
        let page = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(page.status(), 200);
    }

    /// Registers, reads, changes and deletes a webhook as a program does.
    async fn check_api(&self) {
        let form = format!("grant_type=password&username=anna&password={PASSWORD}");
        let granted = self.http.post(format!("{}/Token", self.origin)).body(form).send().await;
        let granted: Value = json_of(granted.unwrap()).await;
        let token = granted["access_token"].as_str().unwrap();
        let ask = async |method, url: &str, body: String| {
            let request = self.http.request(method, url).bearer_auth(token).body(body);
            request.send().await.unwrap()
        };
        let all = format!("{}{REGISTRATIONS}", self.origin);
        let webhook = json!({ "WebHookUri": QUIET }).to_string();
        let created = ask(Method::POST, &all, webhook.clone()).await;
        assert_eq!(created.status(), 201);
        let location = header(&created, "location");
        let id = json_of(created).await["Id"].as_str().unwrap().to_owned();
        assert_eq!(location, format!("{}{REGISTRATIONS}/{id}", self.origin));
        for (method, body, status) in [
            (Method::GET, String::new(), 200),
            (Method::PUT, webhook, 200),
            (Method::PUT, format!("{}x", " ".repeat(1024 * 1024)), 413),
            (Method::PUT, "{}".to_owned(), 400),
            (Method::DELETE, String::new(), 200),
            (Method::GET, String::new(), 404),
        ] {
            let answer = ask(method.clone(), &location, body).await;
            assert_eq!(answer.status(), status, "{method}");
            if matches!(status, 400 | 413) {
                assert!(json_of(answer).await["Message"].is_string());
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Its remaining files are in the folder of temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn header(answer: &Response, name: &str) -> String {
    answer.headers()[name].to_str().unwrap().to_owned()
}

async fn json_of(answer: Response) -> Value {
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn example_configuration_serves_pages_and_the_api() {
    let mut site = Site::start(&[], false).await;
    let answer = site.http.get(format!("{}/webhooks?a=b", site.open)).send().await.unwrap();
    assert_eq!(answer.status(), 301);
    let to = header(&answer, "location");
    assert!(to.starts_with("https://") && to.ends_with("/webhooks?a=b"), "{to}");
    site.check_pages().await;
    site.check_api().await;
}

#[tokio::test]
async fn forms_are_accepted_when_nginx_omits_the_port() {
    let mut site = Site::start(&[("$http_host;", "$host;")], false).await;
    site.check_pages().await;
}

#[tokio::test]
async fn configured_address_suffices_for_a_proxy_without_headers() {
    let changed = [
        ("        proxy_set_header Host              $http_host;\n", ""),
        ("        proxy_set_header X-Forwarded-Proto $scheme;\n", ""),
        ("        proxy_set_header X-Forwarded-For   $remote_addr;\n", ""),
    ];
    let mut site = Site::start(&changed, true).await;
    site.check_pages().await;
    site.check_api().await;
    assert!(site.console.world.sql("select count(*) from webhooks") == "2");
}
