// The provider as its clients see it: `npm test`.

import assert from 'node:assert/strict';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';

import { serve } from './server.js';
import { check } from './settings.js';

const callback = 'https://app.test/callback';
const verifier = 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk';
const port = await freePort();
const issuer = `http://127.0.0.1:${port}`;
const resource = 'https://mlflow.test';
const basic = { authorization: `Basic ${btoa('app:secret')}` };
let server;

before(async () => {
  server = await serve(check({
    issuer,
    listen: { host: '127.0.0.1', port },
    browser_url: 'http://localhost:8080',
    control: true,
    clients: [{
      client_id: 'app',
      client_secret: 'secret',
      redirect_uris: [callback],
      post_logout_redirect_uris: ['https://app.test/bye'],
    }],
    users: [
      { username: 'alice', email: 'alice@test', email_verified: true, name: '<Alice>', groups: ['g'] },
      { username: 'bob', sub: 'b-1' },
    ],
    resources: [{ resource, scopes: ['read'] }],
  }));
});

after(() => {
  server.closeAllConnections();
  server.close();
});

/** The issuer names the port, so it must be known before the server is. */
async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port: free } = probe.address();
  probe.close();
  await once(probe, 'close');
  return free;
}

/** A browser without script: it keeps cookies, follows redirects here, and shows pages. */
class Browser {
  #cookies = new Map();

  async go(url, form) {
    const response = await fetch(new URL(url, issuer), {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      redirect: 'manual',
      headers: { cookie: [...this.#cookies].map((pair) => pair.join('=')).join('; ') },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [name, value] = cookie.split(';')[0].split('=');
      if (value) this.#cookies.set(name, value);
      else this.#cookies.delete(name);
    }
    const location = response.headers.get('location');
    if (location && new URL(location, issuer).origin === issuer) return this.go(location);
    return { status: response.status, location, text: await response.text(), url: response.url };
  }
}

function authorizationUrl(changes = {}) {
  const challenge = createHash('sha256').update(verifier).digest('base64url');
  return `/auth?${new URLSearchParams({
    client_id: 'app', redirect_uri: callback, response_type: 'code', state: 's', nonce: 'n',
    scope: 'openid email profile groups offline_access', prompt: 'consent',
    code_challenge: challenge, code_challenge_method: 'S256', ...changes,
  })}`;
}

async function logIn(username, changes) {
  const browser = new Browser();
  const login = await browser.go(authorizationUrl(changes));
  const consent = await browser.go(login.url, { username });
  const done = await browser.go(consent.url, { decision: 'allow' });
  return { browser, login, consent, sentBack: new URL(done.location).searchParams };
}

async function post(path, form) {
  const response = await fetch(issuer + path, { method: 'POST', headers: basic, body: new URLSearchParams(form) });
  const text = await response.text();
  return { status: response.status, ...(text && JSON.parse(text)) };
}

function redeem(code, more) {
  return post('/token', {
    grant_type: 'authorization_code', code, redirect_uri: callback, code_verifier: verifier, ...more,
  });
}

async function claims(jwt) {
  const { keys } = await (await fetch(`${issuer}/jwks`)).json();
  const [header, payload, signature] = jwt.split('.');
  const { alg, kid } = JSON.parse(Buffer.from(header, 'base64url'));
  assert.equal(alg, 'RS256');
  const key = createPublicKey({ key: keys.find((candidate) => candidate.kid === kid), format: 'jwk' });
  const right = verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'));
  assert.ok(right);
  return JSON.parse(Buffer.from(payload, 'base64url'));
}

test('a login leads through two plain pages to tokens', async () => {
  const { login, consent, sentBack } = await logIn('alice');
  assert.match(login.text, /Log in to use app/);
  assert.match(login.text, /&lt;Alice&gt;/);
  assert.match(consent.text, /<li>groups<\/li>/);
  assert.doesNotMatch(login.text + consent.text, /<script/);
  assert.equal(sentBack.get('state'), 's');
  assert.equal(sentBack.get('iss'), issuer);
  const tokens = await redeem(sentBack.get('code'));
  const { sub, aud, nonce, email, email_verified: verified, groups } = await claims(tokens.id_token);
  assert.deepEqual(
    { sub, aud, nonce, email, verified, groups },
    { sub: 'alice', aud: 'app', nonce: 'n', email: 'alice@test', verified: true, groups: ['g'] },
  );
  const bearer = { authorization: `Bearer ${tokens.access_token}` };
  const userinfo = await (await fetch(`${issuer}/me`, { headers: bearer })).json();
  assert.equal(userinfo.preferred_username, 'alice');
});

test('a refresh token is rotated, and its second use ends the grant', async () => {
  const { sentBack } = await logIn('bob');
  const first = await redeem(sentBack.get('code'));
  const refresh = (token) => post('/token', { grant_type: 'refresh_token', refresh_token: token });
  const second = await refresh(first.refresh_token);
  assert.notEqual(second.refresh_token, first.refresh_token);
  assert.equal((await claims(second.id_token)).sub, 'b-1');
  assert.equal((await refresh(first.refresh_token)).error, 'invalid_grant');
  assert.equal((await refresh(second.refresh_token)).error, 'invalid_grant');
});

test('tokens are introspected and revoked', async () => {
  const { sentBack } = await logIn('alice');
  const { access_token: token } = await redeem(sentBack.get('code'));
  assert.equal((await post('/token/introspection', { token })).active, true);
  assert.equal((await post('/token/revocation', { token })).status, 200);
  assert.equal((await post('/token/introspection', { token })).active, false);
});

test('a user enters the code of a device', async () => {
  const device = await post('/device/auth', { scope: 'openid offline_access read', resource });
  assert.equal(device.verification_uri, 'http://localhost:8080/device');
  const poll = () => post('/token', {
    grant_type: 'urn:ietf:params:oauth:grant-type:device_code', device_code: device.device_code, resource,
  });
  assert.equal((await poll()).error, 'authorization_pending');
  const browser = new Browser();
  const input = await browser.go('/device');
  assert.match(input.text, /Enter the code/);
  assert.doesNotMatch(input.text, /<script|onfocus/);
  const xsrf = (text) => text.match(/name="xsrf" value="([^"]+)"/)[1];
  const confirm = await browser.go('/device', { xsrf: xsrf(input.text), user_code: device.user_code });
  assert.match(confirm.text, new RegExp(device.user_code));
  const login = await browser.go('/device', {
    xsrf: xsrf(confirm.text), user_code: device.user_code, confirm: 'yes',
  });
  const consent = await browser.go(login.url, { username: 'alice' });
  const done = await browser.go(consent.url, { decision: 'allow' });
  assert.match(done.text, /You can go back to your device/);
  const tokens = await poll();
  assert.equal((await claims(tokens.access_token)).sub, 'alice');
  assert.ok(tokens.refresh_token);
});

test('a resource gets JWT access tokens', async () => {
  const { sentBack } = await logIn('alice', { resource, scope: 'openid read' });
  const login = await claims((await redeem(sentBack.get('code'), { resource })).access_token);
  const client = await claims((await post('/token', { grant_type: 'client_credentials', resource, scope: 'read' })).access_token);
  const order = { username: 'alice', client_id: 'app', resource, scope: 'read', lifetime_seconds: 60 };
  const minted = await fetch(`${issuer}/_control/tokens`, { method: 'POST', body: JSON.stringify(order) });
  const mint = await claims((await minted.json()).access_token);
  const summary = [login, client, mint].map(({ sub, aud, scope, email }) => ({ sub, aud, scope, email }));
  assert.deepEqual(summary, [
    { sub: 'alice', aud: resource, scope: 'read', email: 'alice@test' },
    { sub: 'app', aud: resource, scope: 'read', email: undefined },
    { sub: 'alice', aud: resource, scope: 'read', email: 'alice@test' },
  ]);
  assert.equal(mint.exp - mint.iat, 60);
});

test('a token can be minted without a resource', async () => {
  const order = { username: 'alice', client_id: 'app', scope: 'openid email' };
  const minted = await fetch(`${issuer}/_control/tokens`, { method: 'POST', body: JSON.stringify(order) });
  const { access_token: token } = await minted.json();
  const userinfo = await fetch(`${issuer}/me`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal((await userinfo.json()).email, 'alice@test');
  for (const wrong of ['{', '{}', '{"username":"alice"}', '{"username":"alice","client_id":"app","resource":"x"}']) {
    const answer = await fetch(`${issuer}/_control/tokens`, { method: 'POST', body: wrong });
    assert.equal(answer.status, 400, wrong);
  }
});

test('what is wrong is refused', async () => {
  const browser = new Browser();
  const plain = await browser.go(authorizationUrl({ code_challenge: '', code_challenge_method: '' }));
  assert.equal(new URL(plain.location).searchParams.get('error'), 'invalid_request');
  const elsewhere = await browser.go(authorizationUrl({ redirect_uri: 'https://evil.test/' }));
  assert.deepEqual([elsewhere.status, elsewhere.location], [400, null]);
  const login = await browser.go(authorizationUrl());
  assert.match((await browser.go(login.url, { username: 'nobody' })).text, /there is no such user/);
  const denied = await browser.go(login.url, { decision: 'deny' });
  assert.equal(new URL(denied.location).searchParams.get('error'), 'access_denied');
  assert.equal((await new Browser().go('/interaction/unknown')).status, 400);
  const { sentBack } = await logIn('alice');
  assert.equal((await redeem(sentBack.get('code'), { code_verifier: 'x'.repeat(43) })).error, 'invalid_grant');
});

test('the session ends with the logout', async () => {
  const { browser } = await logIn('alice');
  const page = await browser.go('/session/end?client_id=app&post_logout_redirect_uri=https://app.test/bye');
  const xsrf = page.text.match(/name="xsrf" value="([^"]+)"/)[1];
  const done = await browser.go('/session/end/confirm', { xsrf, logout: 'yes' });
  assert.equal(done.location, 'https://app.test/bye');
  const again = await browser.go(authorizationUrl({ prompt: 'none' }));
  assert.equal(new URL(again.location).searchParams.get('error'), 'login_required');
});

test('browsers are sent to their own address', async () => {
  const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  assert.equal(metadata.authorization_endpoint, 'http://localhost:8080/auth');
  assert.equal(metadata.end_session_endpoint, 'http://localhost:8080/session/end');
  assert.equal(metadata.token_endpoint, `${issuer}/token`);
  assert.deepEqual(metadata.response_types_supported, ['code']);
});

test('errors in the configuration name their field', () => {
  const good = { issuer, listen: { host: 'h', port: 1 }, clients: [], users: [] };
  for (const [change, message] of [
    [{ isuer: 'x' }, 'unknown field isuer'],
    [{ users: [{}] }, 'users[0]: username must be of type string'],
    [{ listen: { port: '1', host: 'h' } }, 'listen: port must be of type number'],
    [{ clients: {} }, 'clients must be of type array'],
  ]) {
    assert.throws(() => check({ ...good, ...change }), { message });
  }
});
