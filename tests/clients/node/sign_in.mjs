// Buys `url`, then asks for it again: first with a sign-in by the same wallet (sign-in-with-x), and only if
// that does not open it with another payment. node sign_in.mjs <url>.
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithSIWx } from "@x402/extensions/sign-in-with-x";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { report } from "./report.mjs";

const [url] = process.argv.slice(2);
const network = "eip155:84532";
const account = privateKeyToAccount(process.env.PAYER_KEY);
const shop = wrapFetchWithPaymentFromConfig(wrapFetchWithSIWx(fetch, account), {
  schemes: [{ network, client: new ExactEvmScheme(account) }],
  spendControls: { allowedAssets: [{ network, asset: process.env.TOKEN }] },
});

const bought = await shop(url);
if (!bought.ok) throw new Error(`${bought.status}: ${await bought.text()}`);
await report(await shop(url));
