// Buys `url` with x402-fetch (x402 v1): node pay_v1.mjs <url> <method> [body]; the key is in PAYER_KEY.
import { createSigner, wrapFetchWithPayment } from "x402-fetch";
import { report } from "./report.mjs";

const [url, method, body] = process.argv.slice(2);
const signer = await createSigner("base-sepolia", process.env.PAYER_KEY);
const pay = wrapFetchWithPayment(fetch, signer);

await report(await pay(url, { method, body }));
