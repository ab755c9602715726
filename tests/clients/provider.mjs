// An identity provider for tests: makes key pairs, publishes them as a JWK set, and signs tokens, all with Node's own
// cryptography and none of the server's.

import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const makers = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** The private key `id` in the directory. It is made the first time. */
export function privateKey(directory, id, alg) {
  const path = join(directory, `${id}.private.pem`);
  if (!existsSync(path)) {
    writeFileSync(path, makers[alg]().privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  }
  return createPrivateKey(readFileSync(path));
}

/** The key as providers publish it. */
export function jwk(key, id, alg) {
  return { ...createPublicKey(key).export({ format: 'jwk' }), kid: id, alg, use: 'sig' };
}

/** A token with these claims. */
export function token(key, id, alg, claims) {
  const signed = `${encode({ alg, typ: 'JWT', kid: id })}.${encode(claims)}`;
  const options = alg === 'ES256' ? { key, dsaEncoding: 'ieee-p1363' } : key;
  const signature = sign(alg === 'EdDSA' ? null : 'sha256', Buffer.from(signed), options);
  return `${signed}.${signature.toString('base64url')}`;
}

// By hand: node provider.mjs DIRECTORY '[["id","ES256"]]' '[{"sub":"ann"}]' writes DIRECTORY/jwks.json and the public
// keys as PEM, and prints a token of the last key for each of the claims.
if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [directory, keys, claims] = [process.argv[2], JSON.parse(process.argv[3]), JSON.parse(process.argv[4])];
  const pairs = keys.map(([id, alg]) => ({ id, alg, key: privateKey(directory, id, alg) }));
  writeFileSync(join(directory, 'jwks.json'), JSON.stringify({ keys: pairs.map(({ id, alg, key }) => jwk(key, id, alg)) }));
  for (const { id, key } of pairs) {
    writeFileSync(join(directory, `${id}.pem`), createPublicKey(key).export({ type: 'spki', format: 'pem' }));
  }
  const last = pairs.at(-1);
  for (const one of claims) console.log(token(last.key, last.id, last.alg, one));
}
