//! A real browser: headless Chromium, driven over WebDriver.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;

use crate::cluster::{SHORT, eventually};

/// A browser with a profile of its own. It ends with this value.
pub(crate) struct Browser {
    pub(crate) page: Client,
    driver: Child,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: run .ci/setup browser");
        let port = port(&mut driver);
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,800",
        ];
        let capabilities = json!({"goog:chromeOptions": {"args": arguments}});
        let page = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("Chromium did not start");
        Self { page, driver }
    }

    pub(crate) async fn open(&self, url: &str) {
        self.page.goto(url).await.unwrap();
    }

    pub(crate) async fn url(&self) -> String {
        self.page.current_url().await.unwrap().to_string()
    }

    /// The text that a person reads.
    pub(crate) async fn text(&self) -> String {
        match self.page.find(Locator::Css("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(_changing) => String::new(),
        }
    }

    /// Presses the button or link with this text.
    pub(crate) async fn press(&self, text: &str) {
        let path = format!(
            "//button[contains(., {text:?})] | //a[contains(., {text:?})] | //input[@value={text:?}]"
        );
        let what = format!("a button {text:?}");
        let found = eventually(&what, SHORT, async || {
            match self.page.find(Locator::XPath(&path)).await {
                Ok(element) => Ok(element),
                Err(_absent) => Err(format!("{}: {}", self.url().await, self.text().await)),
            }
        });
        found.await.click().await.unwrap();
    }

    /// Types into the field of this name.
    pub(crate) async fn type_into(&self, name: &str, text: &str) {
        let field = self
            .page
            .find(Locator::Css(&format!("[name={name}]")))
            .await;
        let field = field.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Waits until the page has this text.
    pub(crate) async fn await_text(&self, wanted: &str) -> String {
        eventually(&format!("{wanted:?} on the page"), SHORT, async || {
            let text = self.text().await;
            if text.contains(wanted) {
                Ok(text)
            } else {
                Err(format!("{}: {text}", self.url().await))
            }
        })
        .await
    }

    /// Keeps a picture of the page, for people to look at.
    pub(crate) async fn screenshot(&self, name: &str) {
        let picture = self.page.screenshot().await.unwrap();
        let folder = Path::new("../target/screenshots");
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }

    /// The value of a cookie of the page's site, also one that no script can read.
    pub(crate) async fn cookie(&self, name: &str) -> String {
        let cookie = self.page.get_named_cookie(name).await.unwrap();
        cookie.value().to_owned()
    }

    pub(crate) async fn close(self) {
        self.page.clone().close().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser goes with its driver.
        self.driver.kill().unwrap_or_default();
        self.driver.wait().unwrap();
    }
}

/// The driver chooses a free port, and says which.
fn port(driver: &mut Child) -> u16 {
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let said = lines
        .map_while(Result::ok)
        .find(|line| line.contains("started successfully on port"));
    let said = said.expect("chromedriver did not start");
    let port = said.trim_end_matches('.').rsplit(' ').next().unwrap();
    port.parse().expect("chromedriver named no port")
}
