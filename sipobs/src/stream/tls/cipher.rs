//! How records are opened: the cipher suites with AES-GCM and ChaCha20-Poly1305, and the keys that come of a secret.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384};

/// What is behind each encrypted record.
pub(super) const TAG: usize = 16;

/// A cipher suite that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    aead: Kind,
    hash: Hash,
    is_13: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Aes128,
    Aes256,
    ChaCha20,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
}

impl Suite {
    /// By IANA's number, if it is one of those (RFC 8446 §B.4, RFC 5288, RFC 5289, RFC 7905).
    pub(super) fn of(number: u16) -> Option<Self> {
        let (aead, hash) = match number {
            0x1301 | 0x009c | 0x009e | 0x00a2 | 0xc02b | 0xc02f => (Kind::Aes128, Hash::Sha256),
            0x1302 | 0x009d | 0x009f | 0x00a3 | 0xc02c | 0xc030 => (Kind::Aes256, Hash::Sha384),
            0x1303 | 0xcca8 | 0xcca9 | 0xccaa => (Kind::ChaCha20, Hash::Sha256),
            _ => return None,
        };
        Some(Self { aead, hash, is_13: number >> 8 == 0x13 })
    }

    pub(super) fn is_13(self) -> bool {
        self.is_13
    }

    fn key_len(self) -> usize {
        if self.aead == Kind::Aes128 { 16 } else { 32 }
    }

    /// The keys of both directions, the client's first (RFC 5246 §6.3).
    pub(super) fn keys_12(self, master: &[u8], client: &[u8; 32], server: &[u8; 32]) -> Option<[Key; 2]> {
        let (key, iv) = (self.key_len(), if self.aead == Kind::ChaCha20 { 12 } else { 4 });
        let seed = [&b"key expansion"[..], server, client].concat();
        let mut block = Vec::new();
        // P_hash (RFC 5246 §5).
        let mut a = self.hmac(master, &[&seed])?;
        while block.len() < 2 * (key + iv) {
            block.extend(self.hmac(master, &[&a, &seed])?);
            a = self.hmac(master, &[&a])?;
        }
        let ivs = &block[2 * key..];
        Some([
            Key::new(self, &block[..key], &ivs[..iv])?,
            Key::new(self, &block[key..2 * key], &ivs[iv..2 * iv])?,
        ])
    }

    /// The key of a traffic secret (RFC 8446 §7.3).
    pub(super) fn key_13(self, secret: &[u8]) -> Option<Key> {
        let key = self.expand(secret, b"key", self.key_len())?;
        Key::new(self, &key, &self.expand(secret, b"iv", 12)?)
    }

    /// The secret behind a KeyUpdate (RFC 8446 §7.2).
    pub(super) fn next_secret(self, secret: &[u8]) -> Option<Vec<u8>> {
        self.expand(secret, b"traffic upd", if self.hash == Hash::Sha256 { 32 } else { 48 })
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446 §7.1), of no more than one block.
    fn expand(self, secret: &[u8], label: &[u8], len: usize) -> Option<Vec<u8>> {
        let whole = [b"tls13 ", label].concat();
        let len_byte = u8::try_from(len).ok()?;
        let info = [&[0, len_byte, u8::try_from(whole.len()).ok()?][..], &whole, &[0, 1]].concat();
        let mut block = self.hmac(secret, &[&info])?;
        block.truncate(len);
        Some(block)
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Option<Vec<u8>> {
        fn of<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Option<Vec<u8>> {
            let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
            parts.iter().for_each(|part| mac.update(part));
            Some(mac.finalize().into_bytes().to_vec())
        }
        match self.hash {
            Hash::Sha256 => of::<Hmac<Sha256>>(key, parts),
            Hash::Sha384 => of::<Hmac<Sha384>>(key, parts),
        }
    }
}

/// What opens the records of one direction.
pub(super) struct Key {
    aead: Aead,
    iv: [u8; 12],
    is_13: bool,
}

/// Nothing of it is shown.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

enum Aead {
    Aes128(Aes128Gcm),
    Aes256(Aes256Gcm),
    ChaCha20(ChaCha20Poly1305),
}

impl Key {
    fn new(suite: Suite, key: &[u8], iv: &[u8]) -> Option<Self> {
        let aead = match suite.aead {
            Kind::Aes128 => Aead::Aes128(Aes128Gcm::new_from_slice(key).ok()?),
            Kind::Aes256 => Aead::Aes256(Aes256Gcm::new_from_slice(key).ok()?),
            Kind::ChaCha20 => Aead::ChaCha20(ChaCha20Poly1305::new_from_slice(key).ok()?),
        };
        let mut all = [0; 12];
        all.get_mut(..iv.len())?.copy_from_slice(iv);
        Some(Self { aead, iv: all, is_13: suite.is_13 })
    }

    /// Opens the record of a sequence number; `None` if it is another one, or damaged.
    pub(super) fn open(&self, seq: u64, head: [u8; 5], record: &[u8]) -> Option<Vec<u8>> {
        let is_explicit = !self.is_13 && !matches!(self.aead, Aead::ChaCha20(_));
        let mut nonce = self.iv;
        let sealed = if is_explicit {
            // RFC 5288 §3.
            nonce[4..].copy_from_slice(record.get(..8)?);
            &record[8..]
        } else {
            // RFC 8446 §5.3, RFC 7905 §2.
            nonce[4..].iter_mut().zip(seq.to_be_bytes()).for_each(|(byte, seq)| *byte ^= seq);
            record
        };
        let (text, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        let mut about = [0; 13];
        let about: &[u8] = if self.is_13 {
            &head
        } else {
            // RFC 5246 §6.2.3.3.
            about[..8].copy_from_slice(&seq.to_be_bytes());
            about[8..11].copy_from_slice(&head[..3]);
            about[11..].copy_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
            &about
        };
        let mut text = text.to_vec();
        let tag = <[u8; TAG]>::try_from(tag).ok()?;
        let (nonce, tag, buffer) = (&nonce.into(), &tag.into(), (&mut text[..]).into());
        match &self.aead {
            Aead::Aes128(aead) => aead.decrypt_inout_detached(nonce, about, buffer, tag),
            Aead::Aes256(aead) => aead.decrypt_inout_detached(nonce, about, buffer, tag),
            Aead::ChaCha20(aead) => aead.decrypt_inout_detached(nonce, about, buffer, tag),
        }
        .ok()?;
        Some(text)
    }
}
