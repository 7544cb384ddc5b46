// Signatures of what the Unreal plugin uses of the engine, as far as the compiler asks for them. Nothing here runs.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#define UCLASS(...)
#define USTRUCT(...)
#define UPROPERTY(...)
#define UFUNCTION(...)
#define GENERATED_BODY() using Super = UActorComponent;
#define VOXKIT_API
#define TEXT(text) text
#define TCHAR_TO_UTF8(text) (text)
#define UTF8_TO_TCHAR(text) (text)
#define IMPLEMENT_MODULE(type, name) type module_##name;
#define DECLARE_DYNAMIC_MULTICAST_DELEGATE_OneParam(name, A, a) struct name { void Broadcast(A); }
#define DECLARE_DYNAMIC_MULTICAST_DELEGATE_TwoParams(name, A, a, B, b) struct name { void Broadcast(A, B); }
#define DECLARE_DYNAMIC_MULTICAST_DELEGATE_ThreeParams(name, A, a, B, b, C, c) struct name { void Broadcast(A, B, C); }

using TCHAR = char;
using int32 = std::int32_t;
using SIZE_T = std::size_t;
struct UActorComponent;
struct FDefaultModuleImpl {};
template <class T> std::remove_reference_t<T>&& MoveTemp(T&& value) { return static_cast<std::remove_reference_t<T>&&>(value); }

struct FString {
	FString(const TCHAR* = "");
	const TCHAR* operator*() const;
	bool IsEmpty() const;
	bool operator==(const TCHAR*) const;
	FString operator+(const TCHAR*) const;
};
template <class T> struct TArray {
	int32 Num() const;
	void Add(T);
	void Reset();
	T& AddDefaulted_GetRef();
	const T* GetData() const;
	const T& operator[](int32) const;
	const T* begin() const;
	const T* end() const;
};
template <class K, class V> struct TMap { void Add(K, V); };
template <class T> struct TSharedPtr {
	TSharedPtr();
	template <class U> TSharedPtr(const U&);
	bool IsValid() const;
	void Reset();
	T* operator->() const;
	T& operator*() const;
};
template <class T> using TSharedRef = TSharedPtr<T>;
template <class T> struct TSharedFromThis {};
template <class T, class... A> TSharedPtr<T> MakeShared(A&&... a) { T made(std::forward<A>(a)...); return TSharedPtr<T>(&made); }

enum ELevelTick {};
namespace EEndPlayReason { enum Type {}; }
struct FActorComponentTickFunction { bool bCanEverTick; };
struct UActorComponent {
	virtual ~UActorComponent() = default;
	FActorComponentTickFunction PrimaryComponentTick;
	virtual void TickComponent(float, ELevelTick, FActorComponentTickFunction*);
	virtual void EndPlay(EEndPlayReason::Type);
};
struct FPlatformTime { static double Seconds(); };
struct FCriticalSection {};
struct FScopeLock { explicit FScopeLock(FCriticalSection*); ~FScopeLock(); };

template <class... A> struct TEvent {
	template <class T> void AddSP(T*, void (T::*)(A...));
	template <class T, class F> void AddSPLambda(T*, F f) { std::function<void(A...)> checked(f); }
	void RemoveAll(const void*);
};
struct IWebSocket {
	void Connect();
	void Close();
	bool IsConnected();
	void Send(const FString&);
	void Send(const void*, SIZE_T, bool);
	TEvent<const FString&>& OnMessage();
	TEvent<const FString&>& OnConnectionError();
	TEvent<int32, const FString&, bool>& OnClosed();
};
struct FWebSocketsModule {
	static FWebSocketsModule& Get();
	TSharedRef<IWebSocket> CreateWebSocket(const FString&, const TArray<FString>&, const TMap<FString, FString>&);
};

struct FJsonObject;
struct FJsonValue { TSharedPtr<FJsonObject> AsObject() const; };
struct FJsonObject {
	bool TryGetStringField(const TCHAR*, FString&) const;
	bool TryGetNumberField(const TCHAR*, double&) const;
	bool TryGetBoolField(const TCHAR*, bool&) const;
	bool TryGetObjectField(const TCHAR*, const TSharedPtr<FJsonObject>*&) const;
	bool TryGetArrayField(const TCHAR*, const TArray<TSharedPtr<FJsonValue>>*&) const;
};
struct FJsonReader {};
template <class = TCHAR> struct TJsonReaderFactory { static TSharedRef<FJsonReader> Create(const FString&); };
struct FJsonSerializer { static bool Deserialize(TSharedRef<FJsonReader>, TSharedPtr<FJsonObject>&); };
template <class = TCHAR> struct TJsonWriter {
	void WriteObjectStart();
	void WriteObjectEnd();
	void WriteArrayStart(const TCHAR*);
	void WriteArrayEnd();
	void WriteValue(const FString&);
	void WriteValue(const TCHAR*, const FString&);
	void Close();
};
template <class = TCHAR> struct TJsonWriterFactory { static TSharedRef<TJsonWriter<>> Create(FString*); };

namespace Audio {
struct FCaptureDeviceInfo { int32 PreferredSampleRate; };
struct FAudioCaptureDeviceParams {};
using FOnAudioCaptureFunction = std::function<void(const void*, int32, int32, int32, double, bool)>;
struct FAudioCapture {
	bool GetCaptureDeviceInfo(FCaptureDeviceInfo&);
	bool OpenAudioCaptureStream(const FAudioCaptureDeviceParams&, FOnAudioCaptureFunction, unsigned);
	bool StartStream();
	void StopStream();
	void CloseStream();
	bool IsStreamOpen();
};
}
