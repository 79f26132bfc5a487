/* The paywall: finds the visitor's wallets, has one sign, and sends what was signed to this very
   page until it is known what became of it. Talks to the wallet and to this site, to nobody else.
   A payment is written to sessionStorage before it is sent, and only an answer that rules out that
   it was charged, or will be, removes it: however often the page is reloaded, nobody signs twice. */
(() => {
  "use strict";
  const { $, page, pause, message, show, progress, countSeconds, fail, Problem, explain } = X402;
  const { ask, paid, useNetwork, checkFunds, findWallets, addButton, start } = X402;
  // Payments are valid by the site's clock, whatever this computer's says.
  const clockSkew = page.now - Date.now() / 1000;
  const storageKey = `x402:${location.pathname}${location.search}`;

  // ------------------------------------------------------------------------- what is kept

  const recall = () => JSON.parse(sessionStorage.getItem(storageKey));
  const remember = (payment) => sessionStorage.setItem(storageKey, JSON.stringify(payment));
  const forget = () => sessionStorage.removeItem(storageKey);

  function canKeep() {
    try {
      sessionStorage.setItem("x402", "");
      sessionStorage.removeItem("x402");
      return navigator.cookieEnabled;
    } catch {
      return false; // the browser forbids it
    }
  }

  // ------------------------------------------------------------------------- the signature

  function base64(document) {
    const bytes = new TextEncoder().encode(JSON.stringify(document));
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  }

  function randomHex(length) {
    const random = crypto.getRandomValues(new Uint8Array(length));
    return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /** Have the wallet sign an EIP-3009 authorization for `offer`; the header that pays with it. */
  async function sign(wallet, account, { accepted, chain, amount }) {
    progress("sign", { amount });
    const now = Math.floor(Date.now() / 1000 + clockSkew);
    const authorization = {
      from: account,
      to: accepted.payTo,
      value: accepted.amount,
      validAfter: String(now - 600),
      validBefore: String(now + accepted.maxTimeoutSeconds),
      nonce: "0x" + randomHex(32),
    };
    const fields = (text) =>
      text.split(", ").map((field) => ({ type: field.split(" ")[0], name: field.split(" ")[1] }));
    const typed = {
      types: {
        EIP712Domain: fields(
          "string name, string version, uint256 chainId, address verifyingContract",
        ),
        TransferWithAuthorization: fields(
          "address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, " +
            "bytes32 nonce",
        ),
      },
      primaryType: "TransferWithAuthorization",
      domain: {
        name: accepted.extra.name,
        version: accepted.extra.version,
        chainId: Number(chain.chainId),
        verifyingContract: accepted.asset,
      },
      message: authorization,
    };
    const signature = await wallet.request({
      method: "eth_signTypedData_v4",
      params: [account, JSON.stringify(typed)],
    });
    return base64({
      x402Version: 2,
      accepted,
      payload: { signature, authorization },
      extensions: { "payment-identifier": { info: { id: randomHex(16) } } },
    });
  }

  async function pay(wallet) {
    const checked = document.querySelector("input[name=offer]:checked");
    const offer = page.offers[checked ? checked.value : 0];
    let payment;
    try {
      if (!canKeep()) throw new Problem("e_storage");
      progress("connect");
      const [account] = await wallet.request({ method: "eth_requestAccounts" });
      if (!account) throw new Problem("e_account");
      await useNetwork(wallet, offer.chain);
      await checkFunds(wallet, account, offer, offer.accepted);
      payment = { header: await sign(wallet, account, offer), amount: offer.amount };
      remember(payment);
    } catch (error) {
      fail(explain(error));
      return;
    }
    progress("send", payment);
    await settle(payment);
  }

  // ------------------------------------------------------------------------- settlement

  const unreadable = ["invalid_payload", "invalid_x402_version", "payment_header_too_large"];

  /** Present `payment` until its outcome is certain. Never asks the wallet for anything. */
  async function settle(payment) {
    countSeconds();
    for (;;) {
      const headers = { "PAYMENT-SIGNATURE": payment.header };
      const { response, answer } = await ask(location.href, headers);
      const { status } = response;
      if (status === 200 && "receipt" in answer) return open(payment, answer);
      if (status === 402 || (status === 400 && unreadable.includes(answer.error))) {
        return refused(payment, answer, response);
      }
      const retryAfter = Number(response.headers.get("Retry-After"));
      if (!(retryAfter && (status === 409 || status === 503))) {
        // The page's own trouble, or somebody's in between: the payment may be used or not.
        return fail(message("e_page", { status: status || response.type }), "retry");
      }
      progress(answer.error === "payment_service_unavailable" ? "busy" : "settling");
      await pause(Math.max(retryAfter, 1));
    }
  }

  function refused(payment, answer, response) {
    forget();
    if (payment.opened) return ready(); // an old one, that was looked at to be sure
    const failed = response.headers.has("PAYMENT-RESPONSE") && "e_failed";
    const code = answer.error ?? "";
    fail(message(failed || code) ?? message("e_declined", { code }));
  }

  async function open(payment, { receipt }) {
    if (payment.opened && Date.now() - payment.opened < 60_000) {
      payment.opened = 0; // "try again" is one
      remember(payment);
      return fail(message("e_not_opened"), "retry");
    }
    remember({ ...payment, opened: Date.now() });
    paid(receipt);
    await pause(1);
    location.reload();
  }

  // ------------------------------------------------------------------------- the beginning

  function ready() {
    show("choose");
    $("error").textContent = "";
  }

  start();
  $("retry").querySelector("button").addEventListener("click", () => {
    progress("resume");
    settle(recall());
  });
  findWallets((info, provider) => addButton("wallets", "pay_with", info, () => pay(provider)));
  if (!canKeep()) {
    fail(message("e_storage"));
  } else if (recall()) {
    progress("resume");
    settle(recall());
  }
})();
