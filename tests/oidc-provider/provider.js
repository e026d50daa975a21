// The provider itself: everything that is standard comes from the library.

import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';

import { Provider, errors } from 'oidc-provider';

import * as pages from './pages.js';

/** A provider for checked settings. */
export function makeProvider(settings) {
  const { lifetimes } = settings;
  const provider = new Provider(settings.issuer, {
    clients: settings.clients.map(clientMetadata),
    findAccount: (_ctx, sub) => findAccount(settings, sub),
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['name', 'preferred_username'],
      groups: ['groups'],
    },
    responseTypes: ['code'],
    scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
    conformIdTokenClaims: !settings.claims_in_id_token,
    pkce: { required: () => true },
    jwks: { keys: [signingKey()] },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    renderError: pages.renderError,
    rotateRefreshToken: settings.rotate_refresh_tokens,
    extraTokenClaims: (_ctx, token) => accessTokenClaims(settings, token.accountId),
    clientBasedCORS: () => false,
    ttl: {
      AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? lifetimes.access_token_seconds,
      ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? lifetimes.access_token_seconds,
      Grant: lifetimes.refresh_token_seconds,
      IdToken: lifetimes.id_token_seconds,
      Interaction: 3600,
      RefreshToken: lifetimes.refresh_token_seconds,
      Session: lifetimes.session_seconds,
    },
    features: {
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      deviceFlow: {
        enabled: true,
        userCodeInputSource: pages.userCodeInputSource,
        userCodeConfirmSource: pages.userCodeConfirmSource,
        successSource: pages.successSource,
      },
      introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientAuthMethod !== 'none' },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, indicator) => resourceServerInfo(settings, indicator),
      },
      revocation: {
        enabled: true,
        allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId,
      },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: pages.logoutSource,
        postLogoutSuccessSource: pages.postLogoutSuccessSource,
      },
    },
  });
  if (settings.browser_url) sendBrowsersTo(provider, settings.browser_url);
  return provider;
}

/** A user's access token without a login: a JWT for a resource, opaque without one. */
export async function mint(provider, settings, order) {
  const { username, client_id: clientId, resource, scope = '', lifetime_seconds: expiresIn } = order;
  const user = settings.users.find((candidate) => candidate.username === username);
  const client = await provider.Client.find(clientId);
  if (!user) throw new errors.InvalidRequest(`user ${username} is not known`);
  if (!client) throw new errors.InvalidRequest(`client ${clientId} is not known`);
  const accountId = subjectOf(user);
  const grant = new provider.Grant({ accountId, clientId });
  if (resource) grant.addResourceScope(resource, scope);
  else grant.addOIDCScope(scope);
  const token = new provider.AccessToken({
    accountId,
    client,
    expiresIn,
    expiresWithSession: false,
    extra: accessTokenClaims(settings, accountId),
    grantId: await grant.save(),
    gty: 'authorization_code',
    scope,
  });
  if (resource) {
    const info = resourceServerInfo(settings, resource);
    token.resourceServer = new provider.ResourceServer(resource, info);
  }
  return { access_token: await token.save(), token_type: token.tokenType, expires_in: token.expiration, scope };
}

/** The `sub` of a user. */
export function subjectOf(user) {
  return user.sub ?? user.username;
}

function clientMetadata(client) {
  const secret = client.client_secret !== undefined;
  return {
    redirect_uris: [],
    ...client,
    grant_types: [
      'authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code',
      ...(secret ? ['client_credentials'] : []),
    ],
    response_types: ['code'],
    token_endpoint_auth_method: secret ? 'client_secret_basic' : 'none',
  };
}

function findAccount(settings, sub) {
  const user = settings.users.find((candidate) => subjectOf(candidate) === sub);
  return user && { accountId: sub, claims: () => claimsOf(user) };
}

function claimsOf({ username, sub, ...claims }) {
  return { sub: sub ?? username, preferred_username: username, ...claims };
}

/** What resource servers are told of a user; RFC 9068 §2.2.2. */
function accessTokenClaims(settings, accountId) {
  const user = settings.users.find((candidate) => subjectOf(candidate) === accountId);
  if (!user) return undefined;
  const { sub, ...claims } = claimsOf(user);
  return claims;
}

function resourceServerInfo(settings, indicator) {
  const known = settings.resources.find(({ resource }) => resource === indicator);
  if (!known) throw new errors.InvalidTarget();
  return {
    accessTokenFormat: 'jwt',
    accessTokenTTL: known.lifetime_seconds,
    audience: indicator,
    jwt: { sign: { alg: 'RS256' } },
    scope: known.scopes.join(' '),
  };
}

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = privateKey.export({ format: 'jwk' });
  const kid = createHash('sha256').update(jwk.n).digest('base64url').slice(0, 16);
  return { ...jwk, kid, alg: 'RS256', use: 'sig' };
}

/** Names another address wherever a browser is sent. */
function sendBrowsersTo(provider, base) {
  const names = {
    discovery: ['authorization_endpoint', 'end_session_endpoint'],
    device_authorization: ['verification_uri', 'verification_uri_complete'],
  };
  provider.use(async (ctx, next) => {
    await next();
    for (const name of names[ctx.oidc?.route] ?? []) {
      if (!ctx.body?.[name]) continue;
      const { pathname, search } = new URL(ctx.body[name]);
      ctx.body[name] = new URL(pathname + search, base).href;
    }
  });
}
