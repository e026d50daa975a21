//! What users connect and take back, and whom they let act for them.

use globus_auth_core::session::SessionId;
use globus_auth_core::sidecar_config::DeliveredToken;
use globus_auth_core::vault_api::{
    CONNECT, CONNECTED, CONNECTIONS, CONSENT, ConnectAnswer, ConnectRequest, ConnectedRequest,
    ConnectionsRequest, ConnectionsResponse, ConsentRequest, ConsentedService, DELEGATE,
    DISCONNECT, DelegateRequest, Delegation, DisconnectRequest, END_DELEGATION,
    EndDelegationRequest,
};

use super::{Vault, VaultError};

impl Vault {
    /// What the user of `session` has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn connections(
        &self,
        session: SessionId,
    ) -> Result<ConnectionsResponse, VaultError> {
        let handle = self.handle(session).await?;
        self.ask(CONNECTIONS, &ConnectionsRequest { handle }).await
    }

    /// Begins to connect the service of `token` for the user of `session`, at the issuer that it names; a browser that
    /// goes there comes back to `redirect_uri`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn connect(
        &self,
        session: SessionId,
        token: &DeliveredToken,
        redirect_uri: String,
    ) -> Result<ConnectAnswer, VaultError> {
        let request = ConnectRequest {
            handle: self.handle(session).await?,
            issuer: token.issuer.clone().ok_or(VaultError::Answer)?,
            resource_server: token.resource_server.clone(),
            scopes: token.scopes.clone(),
            redirect_uri,
        };
        self.ask(CONNECT, &request).await
    }

    /// Hands over the code that the browser of `session` brought back from `issuer`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn connected(
        &self,
        session: SessionId,
        issuer: String,
        (state, code): (String, String),
        response_issuer: Option<String>,
    ) -> Result<(), VaultError> {
        let request = ConnectedRequest {
            handle: self.handle(session).await?,
            issuer,
            state: state.into(),
            code: code.into(),
            response_issuer,
        };
        self.tell(CONNECTED, &request).await
    }

    /// Takes back what the user of `session` has connected.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn disconnect(
        &self,
        session: SessionId,
        resource_server: &str,
    ) -> Result<(), VaultError> {
        for (index, delivery) in self.deliveries.iter().enumerate() {
            if delivery.token.resource_server == resource_server {
                self.tokens.remove(&(Some(session), index));
            }
        }
        let request = DisconnectRequest {
            handle: self.handle(session).await?,
            resource_server: resource_server.to_owned(),
        };
        self.tell(DISCONNECT, &request).await
    }

    /// Tells that the user of `session` lets the workload use `services`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn consent(
        &self,
        session: SessionId,
        services: Vec<ConsentedService>,
    ) -> Result<(), VaultError> {
        let handle = self.handle(session).await?;
        let request = ConsentRequest { handle, services };
        self.tell(CONSENT, &request).await
    }

    /// Lets pods act for the user of `session` while they are away, as the delivery of a token says.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn delegate(
        &self,
        session: SessionId,
        token: &DeliveredToken,
    ) -> Result<(), VaultError> {
        let delegation = token.delegation.as_ref().ok_or(VaultError::Answer)?;
        let request = DelegateRequest {
            handle: self.handle(session).await?,
            resource_server: token.resource_server.clone(),
            service_account: delegation.service_account.clone(),
            days: delegation.days,
        };
        self.ask(DELEGATE, &request)
            .await
            .map(|_given: Delegation| ())
    }

    /// Takes that back.
    ///
    /// # Errors
    /// [`VaultError`].
    pub(crate) async fn end_delegation(
        &self,
        session: SessionId,
        resource_server: &str,
        service_account: &str,
    ) -> Result<(), VaultError> {
        let request = EndDelegationRequest {
            handle: self.handle(session).await?,
            resource_server: resource_server.to_owned(),
            service_account: service_account.to_owned(),
        };
        self.tell(END_DELEGATION, &request).await
    }
}
