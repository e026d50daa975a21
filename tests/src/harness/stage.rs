//! One sidecar with a provider on one side and a workload on the other.

use std::net::SocketAddr;

use globus_auth_core::sidecar_config::{DeliveredToken, SidecarConfig, VaultClient};
use globus_auth_core::vault_config::VaultConfig;

use super::browser::Browser;
use super::secrets::Secrets;
use super::sidecar::{self, CLIENT_ID, CLIENT_SECRET, EXTERNAL_URL, Sidecar};
use super::vault::{self, Vault};
use crate::echo::Echo;
use crate::globus::{Client, Config, Emulator, MintRequest, RunningEmulator, User};

/// May enter.
pub const ALICE: &str = "alice@example.org";
/// May not.
pub const MALLORY: &str = "mallory@example.net";
/// May enter, by the address [`CAROLS_EMAIL`]; the user name has two `@`, as Google accounts have at
/// Globus.
pub const CAROL: &str = "carol@example.org@accounts.google.com";
/// The address of [`CAROL`].
pub const CAROLS_EMAIL: &str = "carol@example.org";
/// A resource server that is not ours.
pub const OTHER_SERVICE: &str = "681c10cc-f684-4540-bcd7-0b4df3bc26ef";
/// The scope of its tokens.
pub const OTHER_SCOPE: &str =
    "https://auth.globus.org/scopes/681c10cc-f684-4540-bcd7-0b4df3bc26ef/action_all";

/// Everything that takes part in a test.
#[derive(Debug)]
pub struct Stage {
    /// The provider.
    pub globus: Option<RunningEmulator>,
    /// The workload.
    pub upstream: Option<Echo>,
    /// What is tested.
    pub sidecar: Sidecar,
    /// The vault, if there is one.
    pub vault: Option<Vault>,
    globus_config: Config,
    upstream_address: SocketAddr,
}

/// A change of the sidecar's configuration.
type Change = Box<dyn FnOnce(&mut SidecarConfig) + Send>;

/// What is to be on the stage.
pub struct Setup {
    globus: Config,
    changes: Vec<Change>,
    options: Vec<String>,
    upstream: SocketAddr,
    upstream_port: Option<u16>,
    wait_until_ready: bool,
    tokens: Option<Tokens>,
    change_vault: Option<ChangeVault>,
    vault_database: Option<String>,
}

/// Makes what the workload gets, once it is known where things are.
type Tokens = Box<dyn FnOnce(SocketAddr) -> Vec<DeliveredToken> + Send>;
/// A change of the vault's configuration.
type ChangeVault = Box<dyn FnOnce(&mut VaultConfig) + Send>;

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("globus", &self.globus)
            .finish_non_exhaustive()
    }
}

impl Default for Setup {
    fn default() -> Self {
        let other_service = crate::globus::config::ResourceServer {
            name: OTHER_SERVICE.to_owned(),
            scopes: vec![crate::globus::config::Scope::new(OTHER_SCOPE)],
        };
        let callback = format!("{EXTERNAL_URL}/oauth2/callback");
        let globus = Config::default()
            .client(Client::confidential(CLIENT_ID, CLIENT_SECRET, &callback))
            .client(
                Client::confidential("other-service", "another secret", &callback)
                    .for_resource_server(OTHER_SERVICE),
            )
            .user(User::new(ALICE))
            .user(User::new(MALLORY))
            .user(User {
                email: Some(CAROLS_EMAIL.to_owned()),
                ..User::new(CAROL)
            })
            .resource_server(other_service);
        Self {
            globus,
            changes: Vec::new(),
            options: Vec::new(),
            upstream: SocketAddr::from(([127, 0, 0, 1], 0)),
            upstream_port: None,
            wait_until_ready: true,
            tokens: None,
            change_vault: None,
            vault_database: None,
        }
    }
}

impl Setup {
    /// Changes the sidecar's configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut SidecarConfig) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Changes the provider.
    #[must_use]
    pub fn globus(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.globus = change(self.globus);
        self
    }

    /// Adds an option to the sidecar's command line.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// The sidecar forwards nothing: something else asks it about each request.
    #[must_use]
    pub fn no_upstream(mut self) -> Self {
        self.options.push("--no-upstream".to_owned());
        self
    }

    /// Makes the workload listen on another address than loopback.
    #[must_use]
    pub fn upstream(mut self, address: SocketAddr) -> Self {
        self.upstream = address;
        self
    }

    /// Puts the sidecar in front of something else than the echo upstream.
    #[must_use]
    pub fn in_front_of(mut self, port: u16) -> Self {
        self.upstream_port = Some(port);
        self
    }

    /// Puts a vault behind the sidecar, from which the workload gets `tokens`; routes may lead to the
    /// address that is told.
    #[must_use]
    pub fn vault(
        mut self,
        tokens: impl FnOnce(SocketAddr) -> Vec<DeliveredToken> + Send + 'static,
    ) -> Self {
        self.tokens = Some(Box::new(tokens));
        self
    }

    /// Changes the vault's configuration.
    #[must_use]
    pub fn vault_config(mut self, change: impl FnOnce(&mut VaultConfig) + Send + 'static) -> Self {
        self.change_vault = Some(Box::new(change));
        self
    }

    /// Puts what the vault keeps into another database than a file of its own.
    #[must_use]
    pub fn vault_database(mut self, url: String) -> Self {
        self.vault_database = Some(url);
        self
    }

    /// Does not wait until the sidecar is ready.
    #[must_use]
    pub fn maybe_unready(mut self) -> Self {
        self.wait_until_ready = false;
        self
    }

    /// Starts everything.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(self) -> Stage {
        let globus = Emulator::start(self.globus.clone())
            .await
            .expect("an emulator starts");
        let upstream = Echo::listen(self.upstream)
            .await
            .expect("an upstream starts");
        let mut config = sidecar::config(globus.issuer(), &[ALICE, CAROLS_EMAIL]);
        for change in self.changes {
            change(&mut config);
        }
        let upstream_address = upstream.address();
        let secrets = Secrets::default();
        let mut options = self.options;
        let mut behind = None;
        if let Some(tokens) = self.tokens {
            let tokens = tokens(upstream_address);
            let servers: Vec<&str> = tokens.iter().map(|token| &*token.resource_server).collect();
            let mut vault_config = vault::config(globus.issuer(), &servers);
            if let Some(change) = self.change_vault {
                change(&mut vault_config);
            }
            let started = Vault::start(&vault_config, secrets.clone(), self.vault_database).await;
            let token = started.identity_token(vault::POD);
            options.extend(["--vault-token".to_owned(), token]);
            options.extend(["--outbound-port".to_owned(), "0".to_owned()]);
            config.vault = Some(globus_auth_core::sidecar_config::Vault {
                url: started.url(),
                certificate_authorities: started.authority().to_owned(),
                tokens,
                bearer_tokens: takes_bearer_tokens(&vault_config),
            });
            behind = Some(started);
        }
        let port = self
            .upstream_port
            .unwrap_or_else(|| upstream_address.port());
        for email in [ALICE, MALLORY, CAROLS_EMAIL] {
            secrets.add(email);
        }
        let sidecar = Sidecar::launch(config, port, &options, secrets).await;
        if self.wait_until_ready {
            sidecar.ready().await;
        }
        // The same address again after a stop.
        let globus_config = Config {
            listen: globus.address(),
            ..self.globus
        };
        Stage {
            globus: Some(globus),
            upstream: Some(upstream),
            sidecar,
            vault: behind,
            globus_config,
            upstream_address,
        }
    }
}

/// The client of the login, if the vault gives something for bearer tokens of its users.
fn takes_bearer_tokens(config: &VaultConfig) -> Option<VaultClient> {
    let issuer = config.issuers.first()?;
    (!issuer.bearer_tokens.is_ignored()).then(|| VaultClient {
        issuer: issuer.issuer.clone(),
        client_id: issuer.client_id.clone(),
    })
}

impl Stage {
    /// The usual: [`ALICE`] and [`CAROL`] may enter.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// The usual, to be changed.
    pub fn setup() -> Setup {
        Setup::default()
    }

    /// A browser that nobody has used.
    pub fn browser(&self) -> Browser {
        Browser::new(
            EXTERNAL_URL,
            self.sidecar.address(),
            self.sidecar.secrets().clone(),
        )
    }

    /// A browser in which somebody has logged in.
    ///
    /// # Panics
    /// If the login fails.
    pub async fn logged_in(&self, username: &str) -> Browser {
        let browser = self.browser();
        let page = browser.log_in("/", username).await;
        assert_eq!(page.status, 200, "{page:?}");
        browser
    }

    /// The provider.
    ///
    /// # Panics
    /// While it is stopped.
    pub fn globus(&self) -> &RunningEmulator {
        self.globus.as_ref().expect("the provider runs")
    }

    /// The vault.
    ///
    /// # Panics
    /// If there is none.
    pub fn vault(&self) -> &Vault {
        self.vault.as_ref().expect("there is a vault")
    }

    /// The workload.
    ///
    /// # Panics
    /// While it is stopped.
    pub fn upstream(&self) -> &Echo {
        self.upstream.as_ref().expect("the workload runs")
    }

    /// A token of somebody, as a script gets one.
    ///
    /// # Panics
    /// If the provider does not know them.
    pub fn token_of(&self, username: &str) -> String {
        self.mint(&MintRequest::new(username, CLIENT_ID))
    }

    /// A token to order.
    ///
    /// # Panics
    /// If the provider cannot issue it.
    pub fn mint(&self, order: &MintRequest) -> String {
        let token = self
            .globus()
            .mint(order)
            .expect("a token is issued")
            .access_token;
        self.sidecar.secrets().add(&token);
        token
    }

    /// Takes the provider away.
    pub async fn stop_provider(&mut self) {
        if let Some(globus) = self.globus.take() {
            globus.stop().await;
        }
    }

    /// Brings another provider to the same address, with another key.
    ///
    /// # Panics
    /// If the address is taken.
    pub async fn start_provider(&mut self) {
        let globus = Emulator::start(self.globus_config.clone()).await;
        self.globus = Some(globus.expect("an emulator starts"));
    }

    /// Takes the workload away.
    pub async fn stop_upstream(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            upstream.stop().await;
        }
    }

    /// Brings the workload back.
    ///
    /// # Panics
    /// If its address is taken.
    pub async fn start_upstream(&mut self) {
        let upstream = Echo::listen(self.upstream_address).await;
        self.upstream = Some(upstream.expect("an upstream starts"));
    }
}
