// An OpenID provider to test against: the library `oidc-provider`, with users from a file.
//
//     node server.js config.json

import { createServer } from 'node:http';
import { once } from 'node:events';

import { errors } from 'oidc-provider';

import * as pages from './pages.js';
import { makeProvider, mint, subjectOf } from './provider.js';
import { load } from './settings.js';

const BODY_BYTES_MAX = 64 * 1024;

/** A listening server for checked settings. */
export async function serve(settings) {
  const provider = makeProvider(settings);
  const standard = provider.callback();
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, settings.issuer);
    const handler = ownHandler(pathname);
    if (!handler) return standard(request, response);
    return handler(provider, settings, request, response).catch((error) => fail(response, error));
  });
  server.listen(settings.listen.port, settings.listen.host);
  await once(server, 'listening');
  return server;
}

function ownHandler(pathname) {
  if (pathname === '/_control/health') return health;
  if (pathname === '/_control/tokens') return tokens;
  if (pathname.startsWith('/interaction/')) return interaction;
  return undefined;
}

/** Login and consent: the page on GET, its buttons on POST. */
async function interaction(provider, settings, request, response) {
  const details = await provider.interactionDetails(request, response);
  if (request.method === 'POST') {
    const form = new URLSearchParams(await body(request));
    const result = await pressed(provider, settings, details, form);
    return provider.interactionFinished(request, response, result);
  }
  const client = details.params.client_id;
  const text = details.prompt.name === 'login'
    ? pages.login(client, settings.users)
    : pages.consent(client, missingScopes(details.prompt.details));
  return send(response, 200, 'text/html; charset=utf-8', text);
}

async function pressed(provider, settings, details, form) {
  if (form.get('decision') === 'deny') {
    return { error: 'access_denied', error_description: 'The user denied the request.' };
  }
  if (details.prompt.name === 'login') {
    const user = settings.users.find(({ username }) => username === form.get('username'));
    if (!user) throw new errors.InvalidRequest('there is no such user');
    return { login: { accountId: subjectOf(user) } };
  }
  if (form.get('decision') !== 'allow') throw new errors.InvalidRequest('no button was pressed');
  return { consent: { grantId: await allow(provider, details) } };
}

/** Adds what is missing to the user's grant, or makes one. */
async function allow(provider, { grantId, params, prompt: { details }, session }) {
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope((details.missingOIDCScope ?? []).join(' '));
  grant.addOIDCClaims(details.missingOIDCClaims ?? []);
  for (const [resource, scopes] of Object.entries(details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  return grant.save();
}

function missingScopes(details) {
  const ofResources = Object.entries(details.missingResourceScopes ?? {});
  return [
    ...(details.missingOIDCScope ?? []),
    ...ofResources.flatMap(([resource, scopes]) => scopes.map((scope) => `${scope} at ${resource}`)),
  ];
}

async function health(_provider, _settings, _request, response) {
  sendJson(response, 200, { status: 'ok' });
}

/** Mints a user's access token; off unless configured. */
async function tokens(provider, settings, request, response) {
  if (!settings.control) return sendJson(response, 404, { error: 'not_found' });
  if (request.method !== 'POST') return sendJson(response, 405, { error: 'method_not_allowed' });
  const order = parseJson(await body(request));
  return sendJson(response, 200, await mint(provider, settings, order));
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new errors.InvalidRequest(error.message);
  }
}

async function body(request) {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk;
    if (text.length > BODY_BYTES_MAX) throw new errors.InvalidRequest('the body is too large');
  }
  return text;
}

/** The library's errors are the caller's fault; any other is ours. */
function fail(response, error) {
  const known = error instanceof errors.OIDCProviderError;
  if (!known) process.stderr.write(`${error.stack}\n`);
  const text = known ? error.error_description ?? error.message : 'an internal error';
  send(response, known ? error.status : 500, 'text/html; charset=utf-8', pages.failure(text));
}

function sendJson(response, status, value) {
  send(response, status, 'application/json', JSON.stringify(value));
}

function send(response, status, type, text) {
  response.writeHead(status, {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    'Content-Type': type,
  });
  response.end(text);
}

if (process.argv[1] === import.meta.filename) {
  const [path] = process.argv.slice(2);
  if (!path) {
    process.stderr.write('usage: node server.js config.json\n');
    process.exit(64);
  }
  let settings;
  try {
    settings = load(path);
  } catch (error) {
    process.stderr.write(`failed to use ${path}: ${error.message}\n`);
    process.exit(64);
  }
  const server = await serve(settings);
  process.stderr.write(`the OpenID provider ${settings.issuer} is ready at port ${server.address().port}\n`);
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(0));
}
