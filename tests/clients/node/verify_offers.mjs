// Buys `url` and verifies the site's signed offer and receipt with @x402/extensions:
// node verify_offers.mjs <url>; keys of JSON Web Signatures are looked up by their did:web.
import { decodePaymentRequiredHeader } from "@x402/core/http";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import {
  decodeSignedOffers,
  extractOffersFromPaymentRequired,
  extractReceiptFromResponse,
  findAcceptsObjectFromSignedOffer,
  verifyOfferSignatureEIP712,
  verifyOfferSignatureJWS,
  verifyReceiptMatchesOffer,
  verifyReceiptSignatureEIP712,
  verifyReceiptSignatureJWS,
} from "@x402/extensions/offer-receipt";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

const [url] = process.argv.slice(2);
const network = "eip155:84532";
const account = privateKeyToAccount(process.env.PAYER_KEY);

const challenge = await fetch(url);
const required = decodePaymentRequiredHeader(challenge.headers.get("PAYMENT-REQUIRED"));
const [signed] = extractOffersFromPaymentRequired(required);
const [offer] = decodeSignedOffers([signed]);

const pay = wrapFetchWithPaymentFromConfig(fetch, {
  schemes: [{ network, client: new ExactEvmScheme(account) }],
  spendControls: { allowedAssets: [{ network, asset: process.env.TOKEN }] },
});
const response = await pay(url);
const receipt = extractReceiptFromResponse(response);

const isTyped = signed.format === "eip712";
const verifiedOffer = isTyped
  ? await verifyOfferSignatureEIP712(signed)
  : { payload: await verifyOfferSignatureJWS(signed) };
const verifiedReceipt = isTyped
  ? await verifyReceiptSignatureEIP712(receipt)
  : { payload: await verifyReceiptSignatureJWS(receipt) };

console.log(
  JSON.stringify({
    status: response.status,
    offer: verifiedOffer,
    receipt: verifiedReceipt,
    isOffered: findAcceptsObjectFromSignedOffer(offer, required.accepts) === required.accepts[0],
    matches: verifyReceiptMatchesOffer(receipt, offer, [account.address]),
  }),
);
