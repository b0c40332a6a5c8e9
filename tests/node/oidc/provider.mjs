// An OpenID Connect provider for the tests: the certified oidc-provider with its own forms, in which
// every login name is a user. The routes below /test/ change its keys and make tokens that are wrong
// in one respect.

import { createServer } from "node:http";
import { SignJWT, UnsecuredJWT, exportJWK, exportSPKI, generateKeyPair } from "jose";
import { Provider } from "oidc-provider";

const settings = JSON.parse(process.env.OIDC_SETTINGS);

const server = createServer();
await new Promise((resolve) => server.listen(settings.port ?? 0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

let rotations = 0;
let keys;
let provider;
// The changes that are made to the next ID tokens.
let forge;
// What else is answered otherwise: `userInfo` names one of `userInfos`, `without` what an answer with
// tokens lacks.
let meddle;

async function newKeys() {
  const id = `key-${rotations}`;
  const { publicKey, privateKey } = await generateKeyPair("RS256", { extractable: true });
  const other = await generateKeyPair("RS256", { extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), kid: id, use: "sig", alg: "RS256" };
  return { id, publicKey, privateKey, other: other.privateKey, jwk };
}

function newProvider() {
  const claims = (name) => ({
    sub: `subject of ${name}`,
    preferred_username: name,
    email: `${name}@example.org`,
    email_verified: !name.startsWith("unverified"),
    groups: name.startsWith("chief") ? ["readers", "fanfare-admins"] : ["readers"],
  });
  const script = (name) => ({
    client_id: `script-of-${name}`,
    client_secret: "script-secret",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  });
  const console_ = {
    redirect_uris: [`${settings.console}/sign-in/callback`],
    post_logout_redirect_uris: [`${settings.console}/sign-in`],
  };
  const made = new Provider(issuer, {
    clients: [
      { ...console_, client_id: "console", client_secret: "a secret: 100%" },
      { ...console_, client_id: "public", token_endpoint_auth_method: "none" },
      ...["anna", "chief", "stranger", "disabled"].map(script),
    ],
    jwks: { keys: [keys.jwk] },
    cookies: { keys: ["for tests"] },
    claims: { openid: ["sub"], profile: ["preferred_username"], email: ["email", "email_verified"],
      groups: ["groups"] },
    conformIdTokenClaims: settings.claimsApart,
    pkce: { required: () => true },
    findAccount: (_, id) => ({ accountId: id, claims: () => claims(id) }),
    extraTokenClaims: (_, token) => {
      const { sub: _sub, ...others } = claims(token.clientId.replace("script-of-", ""));
      return others;
    },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          audience: resource,
          scope: "webhooks",
          accessTokenFormat: "jwt",
          accessTokenTTL: 600,
        }),
      },
    },
  });
  made.use(async (context, next) => {
    await next();
    if (context.oidc?.route === "token" && forge && context.body?.id_token) {
      const [, payload] = context.body.id_token.split(".");
      const claims = JSON.parse(Buffer.from(payload, "base64url"));
      context.body.id_token = await token({ ...forge, claims: { ...claims, ...forge.claims } });
    }
    if (context.oidc?.route === "token") {
      for (const member of meddle?.without ?? []) delete context.body[member];
    }
  });
  return made.callback();
}

// Makes a token: `signer` is "current", "other" (an unpublished key under the id of the published
// one), "none", or "public" (the public key as if it were a secret).
async function token({ claims, signer = "current", header = {} }) {
  const protectedHeader = { alg: "RS256", kid: keys.id, ...header };
  switch (signer) {
    case "none":
      return new UnsecuredJWT(claims).encode();
    case "public": {
      const secret = new TextEncoder().encode(await exportSPKI(keys.publicKey));
      return new SignJWT(claims).setProtectedHeader({ ...protectedHeader, alg: "HS256" })
        .sign(secret);
    }
    case "other":
      return new SignJWT(claims).setProtectedHeader(protectedHeader).sign(keys.other);
    default:
      return new SignJWT(claims).setProtectedHeader(protectedHeader)
        .sign(keys.privateKey, { crit: { "x-new": true } });
  }
}

async function rotate() {
  rotations += 1;
  keys = await newKeys();
  provider = newProvider();
}

// The user-info endpoints that fail, by the name of the fault.
const userInfos = {
  refused: (_, response) =>
    response.writeHead(401, { "www-authenticate": 'Bearer error="invalid_token"' }).end(),
  jwt: (_, response) =>
    response.writeHead(200, { "content-type": "application/jwt" }).end("eyJhbGciOiJub25lIn0.e30."),
  unreachable: (request) => request.socket.destroy(),
  silent: () => {},
  huge: (_, response) => response.writeHead(200).end(JSON.stringify("x".repeat(1024 * 1024))),
  broken: (_, response) =>
    response.writeHead(200, { "content-type": "application/json" }).end('{"sub":'),
  other: (_, response) => response.writeHead(200, { "content-type": "application/json" })
    .end(JSON.stringify({ sub: "another", preferred_username: "chief",
      groups: ["fanfare-admins"] })),
};

async function control(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  const body = text ? JSON.parse(text) : null;
  const answers = {
    "/test/rotate": rotate,
    "/test/token": () => token(body),
    "/test/forge": () => { forge = body; },
    "/test/meddle": () => { meddle = body; },
  };
  const answer = Buffer.from((await answers[request.url]()) ?? "");
  response.writeHead(200, { "content-length": answer.length }).end(answer);
}

await rotate();
server.on("request", (request, response) => {
  if (request.url.startsWith("/test/")) return control(request, response);
  const userInfo = request.url === "/me" ? userInfos[meddle?.userInfo] : undefined;
  return (userInfo ?? provider)(request, response);
});
console.log(`listening on ${issuer}`);
