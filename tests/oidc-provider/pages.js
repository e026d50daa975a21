// The pages that people see: plain forms without script.

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function escape(text) {
  return String(text).replace(/[&<>"']/g, (character) => escapes[character]);
}

/** A whole page; `main` is HTML. */
export function page(title, main) {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 0 auto; padding: 0 1rem }
.standin { padding: .5rem 1rem; text-align: center; font-weight: 700; color: #000; background: #ffce3a }
button { font: inherit; display: block; width: 100%; margin: .5rem 0; padding: .5rem }
</style>
</head>
<body>
<p class="standin">OpenID provider for tests and demos</p>
<main>
<h1>${escape(title)}</h1>
${main}
</main>
</body>
</html>
`;
}

export function login(client, users) {
  const buttons = users.map(({ username, name }) => (
    `<button name="username" value="${escape(username)}">${escape(name ?? username)} (${escape(username)})</button>`
  ));
  return page(`Log in to use ${client}`, form([...buttons, deny]));
}

export function consent(client, scopes) {
  const asked = scopes.map((scope) => `<li>${escape(scope)}</li>`).join('\n');
  const allow = '<button name="decision" value="allow">Allow</button>';
  return page(`Allow ${client}?`, `<ul>\n${asked}\n</ul>\n${form([allow, deny])}`);
}

export function failure(text) {
  return page('That did not work', `<p>${escape(text)}</p>`);
}

/** For the library: errors without a redirect URI to trust. */
export function renderError(ctx, out) {
  ctx.type = 'html';
  ctx.body = failure(`${out.error}: ${out.error_description ?? ''}`);
}

/** For the library: asks whether to end the session; `form` is the library's hidden form. */
export function logoutSource(ctx, form) {
  ctx.type = 'html';
  ctx.body = page('Log out?', `${form}
<button form="op.logoutForm" name="logout" value="yes">Log out</button>
<button form="op.logoutForm">Stay logged in</button>`);
}

/** For the library: asks for the code of a device; `form` is the library's, with the field. */
export function userCodeInputSource(ctx, form, _out, err) {
  const wrong = err ? '<p>That is no code that is good now.</p>' : '';
  // The library's own attributes are script.
  const field = form.replace(/onfocus="[^"]*"/, 'aria-label="Code"');
  ctx.type = 'html';
  ctx.body = page('Enter the code', `${wrong}${field}
<button form="op.deviceInputForm">Continue</button>`);
}

/** For the library: asks whether the code is the one that the device shows. */
export function userCodeConfirmSource(ctx, form, client, _device, userCode) {
  ctx.type = 'html';
  ctx.body = page(`Let ${client.clientId} go on?`, `<p>The code is <code>${escape(userCode)}</code>.</p>
${form}
<button form="op.deviceConfirmForm">Go on</button>
<button form="op.deviceConfirmForm" name="abort" value="yes">Abort</button>`);
}

/** For the library: the device can go on. */
export function successSource(ctx) {
  ctx.type = 'html';
  ctx.body = page('You can go back to your device', '');
}

/** For the library: the end of a logout that leads nowhere else. */
export function postLogoutSuccessSource(ctx) {
  ctx.type = 'html';
  ctx.body = page('You are logged out', '');
}

const deny = '<button name="decision" value="deny">Deny</button>';

function form(buttons) {
  return `<form method="post">\n${buttons.join('\n')}\n</form>`;
}
